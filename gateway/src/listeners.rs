//! The gateway's listeners: one of each address for every worker, opened and closed while it runs.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use host::inherited_listeners::{InheritedListeners, ListenerPurpose};
use policy::{self, Freebind};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::listen_socket;

/// Error of an address that cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}{}", not_there(source))]
    Bind {
        /// Address of the listener.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Another process listens at this address.
    #[error(
        "cannot listen on {0}: another process uses the address; run `portcullis upgrade` to \
         replace a running gateway, or use `--standby` or `listen_retry` to wait for its end"
    )]
    Taken(SocketAddr),
}

impl ListenError {
    /// Returns true if the address is in use or does not exist: it may become free or exist later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Taken(_) => true,
            Self::Bind { source, .. } => matches!(
                source.kind(),
                ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
            ),
        }
    }
}

/// Returns advice to append to the message if no interface has the address, else an empty text.
fn not_there(source: &io::Error) -> &'static str {
    if source.kind() == ErrorKind::AddrNotAvailable {
        "; no interface has the address; set `freebind: true` to listen on it nevertheless, or \
         `listen_retry` to wait for it"
    } else {
        ""
    }
}

/// Kind of a listener, by how its connections come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// It listens at an address of the policy.
    Address,
    /// The kernel steers connections to it, and chooses the worker of each by its load.
    Steered,
}

/// A listener that is assigned to a worker.
#[derive(Debug)]
pub(crate) struct AssignedListener {
    pub(crate) listener: TcpListener,
    /// Cancelled when nothing more is accepted here.
    pub(crate) closing: CancellationToken,
    pub(crate) kind: ListenerKind,
}

/// The open listeners, and the workers that accept on them.
#[derive(Debug)]
pub(crate) struct Listeners {
    closing: CancellationToken,
    workers: Vec<mpsc::Sender<AssignedListener>>,
    open: BTreeMap<SocketAddr, OpenAddress>,
    /// Listeners for steered connections, in the order of the slots that the kernel knows them by.
    steered: Vec<TcpListener>,
    are_disabled: bool,
    are_handed_over: bool,
}

#[derive(Debug)]
struct OpenAddress {
    bound: SocketAddr,
    closing: CancellationToken,
    listeners: Vec<TcpListener>,
}

/// Listeners that are bound, by [`Listeners::bind`], but on which no worker accepts yet.
#[derive(Debug)]
pub(crate) struct BoundListeners(Vec<(SocketAddr, SocketAddr, Vec<TcpListener>)>);

impl Listeners {
    /// Creates an empty set of listeners. Cancelling `closing` closes all that are opened later.
    pub(crate) fn new(closing: CancellationToken) -> Self {
        Self {
            closing,
            workers: Vec::new(),
            open: BTreeMap::new(),
            steered: Vec::new(),
            are_disabled: false,
            are_handed_over: false,
        }
    }

    /// Prevents that any address is opened from now on.
    pub(crate) fn disable(&mut self) {
        self.are_disabled = true;
    }

    /// Returns true if no address may be opened.
    pub(crate) fn are_disabled(&self) -> bool {
        self.are_disabled
    }

    /// Begins the handover to another process. No address is opened until its end.
    pub(crate) fn begin_handover(&mut self) {
        self.are_handed_over = true;
    }

    /// Ends the handover to another process.
    pub(crate) fn end_handover(&mut self) {
        self.are_handed_over = false;
    }

    /// Returns true while another process is taking over the listeners. None may be added then.
    pub(crate) fn are_handed_over(&self) -> bool {
        self.are_handed_over
    }

    /// Adds a worker, which receives its listeners through this queue.
    pub(crate) fn add_worker(&mut self, worker: mpsc::Sender<AssignedListener>) {
        self.workers.push(worker);
    }

    /// Binds the addresses of the policy that are not open yet, for every worker; on an error none
    /// of them. Inherited listeners are not bound again, and are taken only if all others could be
    /// bound.
    ///
    /// # Errors
    ///
    /// A [`ListenError`] with the first address that cannot be bound.
    pub(crate) fn bind(
        &self,
        gateway: &policy::GatewayPolicy,
        inherited: &mut InheritedListeners,
    ) -> Result<BoundListeners, ListenError> {
        let (addresses, freebind) = (&gateway.listen, gateway.freebind);
        let new = addresses
            .iter()
            .filter(|address| !self.are_disabled && !self.open.contains_key(address));
        let (kept, new): (Vec<_>, Vec<_>) =
            new.partition(|&&wanted| inherited.has_listener_at(wanted));
        let taken = new.iter().find(|&&&wanted| {
            !inherited.has_listeners(wanted.port())
                && !self.shares_a_port_with(wanted)
                && listen_socket::is_taken(wanted, freebind)
        });
        if let Some(&&wanted) = taken {
            return Err(ListenError::Taken(wanted));
        }
        let bound = new.into_iter().map(|&wanted| {
            let bound = self.bind_one(wanted, freebind);
            bound.map_err(|source| refused(wanted, source))
        });
        let mut bound = bound.collect::<Result<Vec<_>, _>>()?;
        for &wanted in kept {
            // The workers share them: a further listener would get connections from the kernel at
            // once, and perhaps no worker would ever accept them.
            let listeners = inherited.take_listeners(wanted);
            let address = prepared(&listeners).map_err(|source| refused(wanted, source))?;
            bound.push((wanted, address.unwrap_or(wanted), listeners));
        }
        Ok(BoundListeners(bound))
    }

    /// Binds an address for every worker.
    fn bind_one(
        &self,
        wanted: SocketAddr,
        freebind: Freebind,
    ) -> io::Result<(SocketAddr, SocketAddr, Vec<TcpListener>)> {
        let (mut address, mut listeners) = (wanted, Vec::new());
        for _ in 0..self.workers.len() {
            let listener = listen_socket::bind(address, freebind)?;
            // The first worker's port 0 has become a real one for the others.
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        Ok((wanted, address, listeners))
    }

    /// Removes all workers.
    pub(crate) fn dismiss(&mut self) {
        self.workers.clear();
    }

    /// Returns true if one of the open addresses has the same port: the listener that is found
    /// there may be the gateway's own.
    fn shares_a_port_with(&self, wanted: SocketAddr) -> bool {
        let mut open = self.open.values();
        open.any(|open| open.bound.port() == wanted.port())
    }

    /// Makes the workers accept on what was bound, and closes the listeners whose address is not in
    /// `addresses`. Connections that are queued there are still accepted.
    pub(crate) fn open(&mut self, bound: BoundListeners, addresses: &[SocketAddr]) {
        for (wanted, bound, listeners) in bound.0 {
            let closing = self.closing.child_token();
            self.assign(&listeners, &closing, ListenerKind::Address);
            let open = OpenAddress {
                bound,
                closing,
                listeners,
            };
            self.open.insert(wanted, open);
        }
        self.open.retain(|wanted, open| {
            let stays = addresses.contains(wanted);
            if !stays {
                open.closing.cancel();
            }
            stays
        });
    }

    /// Makes each worker accept on one of the listeners for steered connections, until all
    /// listeners close.
    pub(crate) fn open_steered(&mut self, listeners: Vec<TcpListener>) {
        self.assign(&listeners, &self.closing, ListenerKind::Steered);
        self.steered = listeners;
    }

    /// Closes this process's copies of the listeners, and opens no more. Call it once no worker
    /// accepts on them any more.
    pub(crate) fn close(&mut self) {
        self.disable();
        self.open.clear();
        self.steered.clear();
    }

    /// Returns the listeners and the purpose of each.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (ListenerPurpose, BorrowedFd<'_>)> {
        let unsteered = self.open.iter().flat_map(|(&wanted, open)| {
            let listeners = open.listeners.iter();
            listeners.map(move |listener| (ListenerPurpose::Listen(wanted), listener.as_fd()))
        });
        let steered = self.steered.iter().enumerate();
        unsteered.chain(
            steered.map(|(slot, listener)| (ListenerPurpose::Steered(slot), listener.as_fd())),
        )
    }

    /// Returns the addresses that are open, with real ports.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.values().map(|open| open.bound).collect()
    }

    /// Makes every worker accept on one of the listeners, and at least one worker on each. If they
    /// were inherited, there may be more or fewer of them than workers.
    fn assign(&self, listeners: &[TcpListener], closing: &CancellationToken, kind: ListenerKind) {
        let posts = self.workers.len().max(listeners.len());
        let each = self.workers.iter().cycle().zip(listeners.iter().cycle());
        for (worker, listener) in each.take(posts) {
            let assigned = listener.try_clone().map(|listener| AssignedListener {
                listener,
                closing: closing.clone(),
                kind,
            });
            let handed = assigned.map(|assigned| worker.try_send(assigned).is_ok());
            if !matches!(handed, Ok(true)) {
                tracing::error!("cannot hand a listener to a worker; check the open-file limit");
            }
        }
    }
}

/// Makes inherited listeners non-blocking. Returns the address that they are bound to; `None` if
/// there are none.
fn prepared(listeners: &[TcpListener]) -> io::Result<Option<SocketAddr>> {
    let mut address = None;
    for listener in listeners {
        listener.set_nonblocking(true)?;
        address = Some(listener.local_addr()?);
    }
    Ok(address)
}

fn refused(address: SocketAddr, source: io::Error) -> ListenError {
    ListenError::Bind { address, source }
}
