//! The old process, as the new one sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use lb::DrainGuard;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::channel::{MessageReceiver, MessageSender, at_standard_input};
use super::protocol::{DECIDES, KnownHealth, PROTOCOL, ReadySummary, ToNewProcess, ToOldProcess};
use super::remote_connections::RemoteConnections;
use crate::gateway::Gateway;
use crate::inherited_listeners::InheritedListeners;

/// How long the other process may take to close its listeners.
const CLOSE_LISTENERS: Duration = Duration::from_secs(10);

/// Why a process does not inherit from another.
#[derive(Debug, Error)]
pub enum InheritError {
    /// It was not started by an upgrade.
    #[error("`--inherit` is for processes that `portcullis upgrade` starts: {0}")]
    NotStartedByUpgrade(io::Error),
    /// The other process is no longer there.
    #[error("cannot communicate with the old process: {0}")]
    Link(#[from] io::Error),
    /// The other process does not upgrade any more.
    #[error("the old process cancelled the upgrade")]
    Dismissed,
    /// The other process is of a version that cannot be understood.
    #[error(
        "the old process speaks version {0} of the upgrade protocol, this one version {PROTOCOL}"
    )]
    Version(u32),
}

/// What is to become of the processes that drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ForwardedCommands {
    /// How often the policy was to be read again.
    pub(crate) reloads: u64,
    /// How often the file of access records was to be opened again.
    pub(crate) reopens: u64,
    /// Whether the gateway as a whole is to end.
    pub(crate) drain: bool,
    /// Whether yet another process serves.
    pub(crate) upgraded: bool,
    /// The process that served, if that is gone.
    pub(crate) lost: Option<u32>,
}

/// The old process.
#[derive(Debug)]
pub struct OldProcess {
    sender: MessageSender,
    receiver: MessageReceiver,
    health: Vec<KnownHealth>,
    /// Which messages it knows.
    messages: u32,
    /// Its connections that are to end, by its numbers.
    end_requests: mpsc::UnboundedReceiver<u64>,
    /// The socket to the process that stays as the parent of all.
    parent: Option<OwnedFd>,
    /// Those that are counted here.
    connections: RemoteConnections,
}

impl OldProcess {
    /// The process that has started this one. Must be called within a runtime.
    pub fn at_standard_input() -> Result<Self, InheritError> {
        let (sender, receiver) = at_standard_input().map_err(InheritError::NotStartedByUpgrade)?;
        let (connections, cuts) = RemoteConnections::new();
        Ok(Self {
            sender,
            receiver,
            health: Vec::new(),
            messages: 0,
            end_requests: cuts,
            parent: None,
            connections,
        })
    }

    /// Takes what it hands over.
    pub async fn receive_listeners(&mut self) -> Result<InheritedListeners, InheritError> {
        let mut inherited = InheritedListeners::default();
        loop {
            match self.receive().await? {
                ToNewProcess::Hello { protocol, .. } if protocol != PROTOCOL => {
                    return Err(InheritError::Version(protocol));
                }
                ToNewProcess::Hello {
                    has_loaded,
                    generation,
                    messages,
                    ..
                } => {
                    inherited.set_generation(generation);
                    self.messages = messages;
                    if has_loaded {
                        inherited.set_owns_steering();
                    }
                }
                ToNewProcess::Listeners(purposes) => {
                    for purpose in purposes {
                        let socket = self.receiver.descriptor().ok_or_else(unexpected_message)?;
                        inherited.add(&purpose.parse().map_err(|()| unexpected_message())?, socket);
                    }
                }
                ToNewProcess::Health(known) => self.health.extend(known),
                ToNewProcess::Prepare => return Ok(inherited),
                ToNewProcess::Connections(_)
                | ToNewProcess::Parent
                | ToNewProcess::Serve
                | ToNewProcess::Drained
                | ToNewProcess::Drain
                | ToNewProcess::ListenersClosed
                | ToNewProcess::Admit { .. }
                | ToNewProcess::Dialed { .. }
                | ToNewProcess::Ended { .. } => return Err(unexpected_message().into()),
            }
        }
    }

    /// Has the gateway believe what the other one's probes have found out.
    pub fn apply_health(&mut self, gateway: &Gateway) {
        self.health
            .drain(..)
            .for_each(|known| gateway.assume_health(&known));
    }

    /// Says that everything is ready, and waits until it is to serve. The other process's clients are
    /// counted then.
    pub async fn receive_connections(
        &mut self,
        gateway: &Gateway,
        summary: ReadySummary,
    ) -> Result<(), InheritError> {
        self.sender.send(&ToOldProcess::Ready(summary)).await?;
        loop {
            match self.receive().await? {
                ToNewProcess::Connections(carried) => {
                    for carried in carried {
                        self.connections.insert(gateway, &carried);
                    }
                }
                ToNewProcess::Parent => {
                    self.parent = Some(self.receiver.descriptor().ok_or_else(unexpected_message)?);
                }
                ToNewProcess::Serve => return Ok(()),
                ToNewProcess::Hello { .. }
                | ToNewProcess::Listeners(_)
                | ToNewProcess::Health(_)
                | ToNewProcess::Prepare
                | ToNewProcess::ListenersClosed
                | ToNewProcess::Drained
                | ToNewProcess::Drain
                | ToNewProcess::Admit { .. }
                | ToNewProcess::Dialed { .. }
                | ToNewProcess::Ended { .. } => return Err(unexpected_message().into()),
            }
        }
    }

    /// Says that this process serves, and waits until the other one has closed its listeners.
    pub async fn report_serving(&mut self) -> Result<(), InheritError> {
        self.sender.send(&ToOldProcess::Serving).await?;
        // Whether it says so or not, this process serves.
        drop(timeout(CLOSE_LISTENERS, self.receiver.receive::<ToNewProcess>()).await);
        Ok(())
    }

    /// The socket to the process that stays as the parent of all, if there is one.
    pub fn take_parent(&mut self) -> Option<OwnedFd> {
        self.parent.take()
    }

    /// Says why this process cannot serve.
    pub async fn report_failure(mut self, why: String) {
        // Without a word the other one knows as much: the socket is closed.
        self.sender.send(&ToOldProcess::Failed(why)).await.ok();
    }

    /// Keeps count of its connections until it ends. The stay is the gateway's whose drain waits for it.
    /// That the gateway is to end, `end` is told.
    pub(crate) async fn count_connections(
        mut self,
        gateway: Arc<Gateway>,
        mut orders: watch::Receiver<ForwardedCommands>,
        end: Arc<Notify>,
        stay: DrainGuard,
    ) {
        let mut given = ForwardedCommands::default();
        loop {
            let message = tokio::select! {
                message = self.receiver.receive() => message,
                Some(connection) = self.end_requests.recv() => {
                    if self.messages >= DECIDES {
                        // If it cannot be told, it is gone, and with it the connection.
                        self.sender.send(&ToOldProcess::Cut { connection }).await.ok();
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
                    self.forward(given, now).await;
                    given = now;
                    continue;
                }
                () = gateway.drain().cut_off() => {
                    self.sender.send(&ToOldProcess::End).await.ok();
                    break;
                }
            };
            match message {
                Ok(Some(ToNewProcess::Drained)) => {
                    tracing::info!("the old process has drained, and stays as the parent");
                    break;
                }
                Ok(Some(ToNewProcess::Drain)) => end.notify_one(),
                Ok(Some(message)) => self.connections.handle(&gateway, message),
                Ok(None) => {
                    tracing::info!("the old process has ended");
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "the old process sent an invalid message");
                    break;
                }
            }
        }
        self.connections.release_all(&gateway);
        drop(stay);
    }

    /// Gives the orders that are new. Whoever cannot be told is gone.
    async fn forward(&mut self, given: ForwardedCommands, now: ForwardedCommands) {
        let knows_all = self.messages >= DECIDES;
        let lost = now.lost.filter(|_| given.lost.is_none() && knows_all);
        let news = [
            (now.reloads != given.reloads).then_some(ToOldProcess::Reload),
            (now.reopens != given.reopens).then_some(ToOldProcess::Reopen),
            (now.drain != given.drain).then_some(ToOldProcess::Drain),
            (now.upgraded != given.upgraded && knows_all).then_some(ToOldProcess::Followed),
            lost.map(|pid| ToOldProcess::Lost { pid }),
        ];
        for order in news.iter().flatten() {
            self.sender.send(order).await.ok();
        }
    }

    async fn receive(&mut self) -> Result<ToNewProcess, InheritError> {
        let message = self.receiver.receive().await?;
        message.ok_or(InheritError::Dismissed)
    }
}

fn unexpected_message() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it said something that was not to be expected",
    )
}
