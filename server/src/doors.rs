//! The gateway's listeners: one of each address for every worker, opened and closed while it runs.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::gateway::LoadError;
use crate::worker;

/// A listener on its way to its worker.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// Cancelled when no more may come in here.
    pub(crate) closing: CancellationToken,
    /// Whether the kernel chose the worker, by its load.
    pub(crate) steered: bool,
}

/// The doors that are open, and the workers that stand at them.
#[derive(Debug)]
pub(crate) struct Doors {
    closing: CancellationToken,
    workers: Vec<mpsc::Sender<Door>>,
    open: BTreeMap<SocketAddr, Open>,
    stay_closed: bool,
}

#[derive(Debug)]
struct Open {
    bound: SocketAddr,
    closing: CancellationToken,
}

/// Listeners that are bound, but that nobody stands at yet.
#[derive(Debug)]
pub(crate) struct Bound(Vec<(SocketAddr, SocketAddr, Vec<TcpListener>)>);

impl Doors {
    /// No doors; cancelling `closing` closes all that will be opened.
    pub(crate) fn new(closing: CancellationToken) -> Self {
        Self {
            closing,
            workers: Vec::new(),
            open: BTreeMap::new(),
            stay_closed: false,
        }
    }

    /// No address is to be opened, whatever is asked for.
    pub(crate) fn keep_closed(&mut self) {
        self.stay_closed = true;
    }

    /// Adds a worker, which gets its listeners through this queue.
    pub(crate) fn staff(&mut self, worker: mpsc::Sender<Door>) {
        self.workers.push(worker);
    }

    /// Binds those of the addresses that are not open yet, for every worker, or none of them.
    pub(crate) fn bind(&self, addresses: &[SocketAddr]) -> Result<Bound, LoadError> {
        let new = addresses
            .iter()
            .filter(|address| !self.stay_closed && !self.open.contains_key(address));
        let bound = new.map(|&wanted| {
            let refused = |source: io::Error| LoadError::Listen {
                address: wanted,
                source,
            };
            let mut address = wanted;
            let mut listeners = Vec::with_capacity(self.workers.len());
            for _ in &self.workers {
                let listener = worker::bind(address).map_err(refused)?;
                // The first worker's port 0 has become a real one for the others.
                address = listener.local_addr().map_err(refused)?;
                listeners.push(listener);
            }
            Ok((wanted, address, listeners))
        });
        bound.collect::<Result<_, _>>().map(Bound)
    }

    /// Has the workers stand at what was bound, and closes what is not among the addresses. What
    /// already waits there is still let in.
    pub(crate) fn open(&mut self, bound: Bound, addresses: &[SocketAddr]) {
        for (wanted, bound, listeners) in bound.0 {
            let closing = self.closing.child_token();
            for (worker, listener) in self.workers.iter().zip(listeners) {
                hand_over(worker, listener, closing.clone(), false);
            }
            self.open.insert(wanted, Open { bound, closing });
        }
        self.open.retain(|wanted, open| {
            let stays = addresses.contains(wanted);
            if !stays {
                open.closing.cancel();
            }
            stays
        });
    }

    /// Has each worker stand at one of the listeners that are steered to, until all doors close.
    pub(crate) fn open_steered(&self, listeners: Vec<TcpListener>) {
        for (worker, listener) in self.workers.iter().zip(listeners) {
            hand_over(worker, listener, self.closing.clone(), true);
        }
    }

    /// The addresses that are open, with real ports.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.values().map(|open| open.bound).collect()
    }
}

fn hand_over(
    worker: &mpsc::Sender<Door>,
    listener: TcpListener,
    closing: CancellationToken,
    steered: bool,
) {
    let door = Door {
        listener,
        closing,
        steered,
    };
    if worker.try_send(door).is_err() {
        tracing::error!("a worker does not take its listener");
    }
}
