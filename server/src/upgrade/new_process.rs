//! The process that drains, as the one that follows it sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use lb::Stay;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::channel::{Receiver, Sender, at_standard_input};
use super::protocol::{DECIDES, Known, PROTOCOL, Summary, ToElder, ToHeir};
use super::remote_connections::RemoteConnections;
use crate::gateway::Gateway;
use crate::inherited_listeners::Inherited;

/// How long the other process may take to close its listeners.
const LEAVE: Duration = Duration::from_secs(10);

/// Why a process does not follow another.
#[derive(Debug, Error)]
pub enum SuccessionError {
    /// It was not started by an upgrade.
    #[error("`--succeed` is for processes that `portcullis upgrade` starts: {0}")]
    NotStartedByAnother(io::Error),
    /// The other process is no longer there.
    #[error("the process that is to be followed cannot be talked to: {0}")]
    Link(#[from] io::Error),
    /// The other process needs nobody to follow it.
    #[error("the process that was to be followed goes on itself")]
    Dismissed,
    /// The other process is of a version that cannot be understood.
    #[error(
        "the process that is to be followed speaks version {0} of the handover, this one {PROTOCOL}"
    )]
    Version(u32),
}

/// What is to become of the processes that drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// How often the policy was to be read again.
    pub(crate) reloads: u64,
    /// How often the file of access records was to be opened again.
    pub(crate) reopens: u64,
    /// Whether the gateway as a whole is to end.
    pub(crate) drain: bool,
    /// Whether yet another process serves.
    pub(crate) followed: bool,
    /// The process that served, if that is gone.
    pub(crate) lost: Option<u32>,
}

/// The process that is followed.
#[derive(Debug)]
pub struct Elder {
    sender: Sender,
    receiver: Receiver,
    known: Vec<Known>,
    /// Which messages it knows.
    messages: u32,
    /// Its connections that are to end, by its numbers.
    cuts: mpsc::UnboundedReceiver<u64>,
    /// The socket to the process that stays as the parent of all.
    parent: Option<OwnedFd>,
    /// Those that are counted here.
    connections: RemoteConnections,
}

impl Elder {
    /// The process that has started this one. Must be called within a runtime.
    pub fn at_standard_input() -> Result<Self, SuccessionError> {
        let (sender, receiver) =
            at_standard_input().map_err(SuccessionError::NotStartedByAnother)?;
        let (connections, cuts) = RemoteConnections::new();
        Ok(Self {
            sender,
            receiver,
            known: Vec::new(),
            messages: 0,
            cuts,
            parent: None,
            connections,
        })
    }

    /// Takes what it hands over.
    pub async fn inherit(&mut self) -> Result<Inherited, SuccessionError> {
        let mut inherited = Inherited::default();
        loop {
            match self.hear().await? {
                ToHeir::Hello { protocol, .. } if protocol != PROTOCOL => {
                    return Err(SuccessionError::Version(protocol));
                }
                ToHeir::Hello {
                    has_loaded,
                    generation,
                    messages,
                    ..
                } => {
                    inherited.note_generation(generation);
                    self.messages = messages;
                    if has_loaded {
                        inherited.and_what_is_loaded();
                    }
                }
                ToHeir::Listeners(purposes) => {
                    for purpose in purposes {
                        let socket = self.receiver.descriptor().ok_or_else(garbled)?;
                        inherited.add(&purpose.parse().map_err(|()| garbled())?, socket);
                    }
                }
                ToHeir::Health(known) => self.known.extend(known),
                ToHeir::Prepare => return Ok(inherited),
                ToHeir::Connections(_)
                | ToHeir::Parent
                | ToHeir::Serve
                | ToHeir::Drained
                | ToHeir::Drain
                | ToHeir::Left
                | ToHeir::Arrived { .. }
                | ToHeir::Dialed { .. }
                | ToHeir::Ended { .. } => return Err(garbled().into()),
            }
        }
    }

    /// Has the gateway believe what the other one's probes have found out.
    pub fn tell_health(&mut self, gateway: &Gateway) {
        self.known
            .drain(..)
            .for_each(|known| gateway.assume(&known));
    }

    /// Says that everything is ready, and waits until it is to serve. The other process's clients are
    /// counted then.
    pub async fn take_over(
        &mut self,
        gateway: &Gateway,
        summary: Summary,
    ) -> Result<(), SuccessionError> {
        self.sender.send(&ToElder::Ready(summary)).await?;
        loop {
            match self.hear().await? {
                ToHeir::Connections(carried) => {
                    for carried in carried {
                        self.connections.take_over(gateway, &carried);
                    }
                }
                ToHeir::Parent => {
                    self.parent = Some(self.receiver.descriptor().ok_or_else(garbled)?);
                }
                ToHeir::Serve => return Ok(()),
                ToHeir::Hello { .. }
                | ToHeir::Listeners(_)
                | ToHeir::Health(_)
                | ToHeir::Prepare
                | ToHeir::Left
                | ToHeir::Drained
                | ToHeir::Drain
                | ToHeir::Arrived { .. }
                | ToHeir::Dialed { .. }
                | ToHeir::Ended { .. } => return Err(garbled().into()),
            }
        }
    }

    /// Says that this process serves, and waits until the other one has closed its listeners.
    pub async fn serving(&mut self) -> Result<(), SuccessionError> {
        self.sender.send(&ToElder::Serving).await?;
        // Whether it says so or not, this process serves.
        drop(timeout(LEAVE, self.receiver.receive::<ToHeir>()).await);
        Ok(())
    }

    /// The socket to the process that stays as the parent of all, if there is one.
    pub fn take_parent(&mut self) -> Option<OwnedFd> {
        self.parent.take()
    }

    /// Says why this process cannot serve.
    pub async fn fail(mut self, why: String) {
        // Without a word the other one knows as much: the socket is closed.
        self.sender.send(&ToElder::Failed(why)).await.ok();
    }

    /// Keeps count of its connections until it ends. The stay is the gateway's whose drain waits for it.
    /// That the gateway is to end, `end` is told.
    pub(crate) async fn follow(
        mut self,
        gateway: Arc<Gateway>,
        mut orders: watch::Receiver<Orders>,
        end: Arc<Notify>,
        stay: Stay,
    ) {
        let mut given = Orders::default();
        loop {
            let message = tokio::select! {
                message = self.receiver.receive() => message,
                Some(connection) = self.cuts.recv() => {
                    if self.messages >= DECIDES {
                        // If it cannot be told, it is gone, and with it the connection.
                        self.sender.send(&ToElder::Cut { connection }).await.ok();
                    }
                    continue;
                }
                answer = self.connections.decided() => {
                    // If it cannot be told, it is gone, and with it the connection.
                    self.sender.send(&answer).await.ok();
                    continue;
                }
                Ok(()) = orders.changed() => {
                    let now = *orders.borrow();
                    self.pass_on(given, now).await;
                    given = now;
                    continue;
                }
                () = gateway.drain().cut_off() => {
                    self.sender.send(&ToElder::End).await.ok();
                    break;
                }
            };
            match message {
                Ok(Some(ToHeir::Drained)) => {
                    tracing::info!(
                        "the process that was followed has drained, and stays as parent"
                    );
                    break;
                }
                Ok(Some(ToHeir::Drain)) => end.notify_one(),
                Ok(Some(message)) => self.connections.note(&gateway, message),
                Ok(None) => {
                    tracing::info!("the process that was followed has ended");
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "the process that drains cannot be understood");
                    break;
                }
            }
        }
        self.connections.release_all(&gateway);
        drop(stay);
    }

    /// Gives the orders that are new. Whoever cannot be told is gone.
    async fn pass_on(&mut self, given: Orders, now: Orders) {
        let knows_all = self.messages >= DECIDES;
        let lost = now.lost.filter(|_| given.lost.is_none() && knows_all);
        let news = [
            (now.reloads != given.reloads).then_some(ToElder::Reload),
            (now.reopens != given.reopens).then_some(ToElder::Reopen),
            (now.drain != given.drain).then_some(ToElder::Drain),
            (now.followed != given.followed && knows_all).then_some(ToElder::Followed),
            lost.map(|pid| ToElder::Lost { pid }),
        ];
        for order in news.iter().flatten() {
            self.sender.send(order).await.ok();
        }
    }

    async fn hear(&mut self) -> Result<ToHeir, SuccessionError> {
        let message = self.receiver.receive().await?;
        message.ok_or(SuccessionError::Dismissed)
    }
}

fn garbled() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it said something that was not to be expected",
    )
}
