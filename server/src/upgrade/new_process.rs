//! The new process's part of an upgrade: it takes over from the old process, and counts the
//! connections that stay there.

use admin::ReadySummary;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use host::channel::{MessageReceiver, MessageSender, at_standard_input};
use lb::DrainGuard;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::protocol::{
    CommandMessage, DECIDES, EventMessage, HandoverAnswer, HandoverMessage, PROTOCOL, SetupAnswer,
    SetupMessage,
};
use gateway::Gateway;
use gateway::known_health::KnownHealth;
use gateway::remote_connections::RemoteConnections;
use host::inherited_listeners::InheritedListeners;

/// Time limit for the old process to close its listeners: 10 s.
const CLOSE_LISTENERS: Duration = Duration::from_secs(10);

/// Reason why a process cannot take over from an [`OldProcess`].
#[derive(Debug, Error)]
pub(crate) enum InheritError {
    /// The process was not started by an upgrade.
    #[error("`--inherit` is for processes that `portcullis upgrade` starts: {0}")]
    NotStartedByUpgrade(io::Error),
    /// The communication with the old process failed.
    #[error("cannot communicate with the old process: {0}")]
    Link(#[from] io::Error),
    /// The old process has closed the socket: the upgrade was cancelled, or it was only a trial.
    #[error("the old process cancelled the upgrade")]
    Dismissed,
    /// The old process speaks a version of the protocol that this one does not understand.
    #[error(
        "the old process speaks version {0} of the upgrade protocol, this one version {PROTOCOL}"
    )]
    Version(u32),
}

/// Commands for the processes that drain, as a state whose changes are forwarded to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ForwardedCommands {
    /// Number of orders to read the policy again.
    pub(crate) reloads: u64,
    /// Number of orders to open the file of access records again.
    pub(crate) reopens: u64,
    /// True if the gateway as a whole is to end.
    pub(crate) drain: bool,
    /// True if a newer process serves.
    pub(crate) upgraded: bool,
    /// Process ID of the process that served, if it has ended unexpectedly.
    pub(crate) lost: Option<u32>,
}

/// The old process, as the new one sees it.
#[derive(Debug)]
pub(crate) struct OldProcess {
    sender: MessageSender,
    receiver: MessageReceiver,
    health: Vec<KnownHealth>,
    /// The old process's [`MESSAGE_SET`](super::protocol::MESSAGE_SET).
    messages: u32,
    /// Connections of the old process that are to end, by the old process's numbers.
    end_requests: mpsc::UnboundedReceiver<u64>,
    /// Socket to the first process, if that stays as the parent of all later ones.
    parent: Option<OwnedFd>,
    /// Connections of the old process that are counted here.
    connections: RemoteConnections,
}

impl OldProcess {
    /// Connects to the old process, which has started this one, by the socket at standard input.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If standard input is not a socket to another process.
    pub(crate) fn at_standard_input() -> Result<Self, InheritError> {
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

    /// Receives the listeners and the health of the upstreams, until everything has been handed
    /// over.
    ///
    /// # Errors
    ///
    /// If the old process speaks another version of the protocol, cancels the upgrade or sends an
    /// unexpected message.
    pub(crate) async fn receive_listeners(&mut self) -> Result<InheritedListeners, InheritError> {
        let mut inherited = InheritedListeners::default();
        loop {
            match self.receive().await? {
                SetupMessage::Hello { protocol, .. } if protocol != PROTOCOL => {
                    return Err(InheritError::Version(protocol));
                }
                SetupMessage::Hello {
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
                SetupMessage::Listeners(purposes) => {
                    for purpose in purposes {
                        let socket = self.receiver.descriptor().ok_or_else(unexpected_message)?;
                        inherited.add(&purpose.parse().map_err(|()| unexpected_message())?, socket);
                    }
                }
                SetupMessage::Health(known) => self.health.extend(known),
                SetupMessage::Prepare => return Ok(inherited),
            }
        }
    }

    /// Applies the health of the upstreams, as the old process's probes have found it, to the
    /// gateway.
    pub(crate) fn apply_health(&mut self, gateway: &Gateway) {
        self.health
            .drain(..)
            .for_each(|known| gateway.assume_health(&known));
    }

    /// Reports that this process is ready, and waits for the order to serve. Until then it receives
    /// the old process's connections, which it counts.
    ///
    /// # Errors
    ///
    /// [`InheritError::Dismissed`] if the old process has cancelled the upgrade, another
    /// [`InheritError`] if it cannot be reached or sends an unexpected message.
    pub(crate) async fn receive_connections(
        &mut self,
        gateway: &Gateway,
        summary: ReadySummary,
    ) -> Result<(), InheritError> {
        self.sender.send(&SetupAnswer::Ready(summary)).await?;
        loop {
            match self.receive().await? {
                HandoverMessage::Connections(carried) => {
                    for carried in carried {
                        self.connections.insert(gateway.shared(), &carried);
                    }
                }
                HandoverMessage::Parent => {
                    self.parent = Some(self.receiver.descriptor().ok_or_else(unexpected_message)?);
                }
                HandoverMessage::Serve => return Ok(()),
            }
        }
    }

    /// Reports that this process serves, and waits until the old one has closed its listeners, for
    /// 10 s at most.
    ///
    /// # Errors
    ///
    /// An [`InheritError`] if the report cannot be sent.
    pub(crate) async fn report_serving(&mut self) -> Result<(), InheritError> {
        self.sender.send(&HandoverAnswer::Serving).await?;
        // With or without an answer, this process serves.
        drop(timeout(CLOSE_LISTENERS, self.receiver.receive::<EventMessage>()).await);
        Ok(())
    }

    /// Takes the socket to the first process, if that stays as the parent of all later ones.
    pub(crate) fn take_parent(&mut self) -> Option<OwnedFd> {
        self.parent.take()
    }

    /// Reports why this process cannot serve.
    pub(crate) async fn report_failure(mut self, why: String) {
        // It is the same text in both stages ([`HandoverAnswer::Failed`]). If it cannot be sent,
        // the old process notices that the socket is closed.
        self.sender.send(&SetupAnswer::Failed(why)).await.ok();
    }

    /// Counts the old process's connections here, decides about its clients and forwards `orders`
    /// to it, until it has ended or drained, or until this gateway's drain cuts off its
    /// connections.
    ///
    /// `end` is notified when the old process reports that the gateway is to end. The gateway's
    /// drain waits as long as `stay` is held.
    pub(crate) async fn count_connections(
        mut self,
        gateway: Arc<Gateway>,
        mut orders: watch::Receiver<ForwardedCommands>,
        end: Arc<Notify>,
        stay: DrainGuard,
    ) {
        let mut given = ForwardedCommands::default();
        loop {
            tokio::select! {
                event = self.receiver.receive() => {
                    if self.handle_event(event, &gateway, &end).is_break() {
                        break;
                    }
                }
                Some(connection) = self.end_requests.recv() => {
                    if self.messages >= DECIDES {
                        self.send(&CommandMessage::Cut { connection }).await;
                    }
                }
                answer = self.connections.decided() => {
                    self.send(&CommandMessage::Verdict(answer)).await;
                }
                Ok(()) = orders.changed() => {
                    let now = *orders.borrow();
                    self.forward(given, now).await;
                    given = now;
                }
                () = gateway.drain().cut_off() => {
                    self.send(&CommandMessage::End).await;
                    break;
                }
            }
        }
        self.connections.release_all(gateway.shared());
        drop(stay);
    }

    /// Handles what was received from the old process. The result is `Break` if nothing more is to
    /// come from it.
    fn handle_event(
        &mut self,
        received: io::Result<Option<EventMessage>>,
        gateway: &Arc<Gateway>,
        end: &Notify,
    ) -> ControlFlow<()> {
        match received {
            Ok(Some(EventMessage::Connection(event))) => {
                self.connections.handle(gateway.shared(), event);
            }
            // It came too late for [`Self::report_serving`].
            Ok(Some(EventMessage::ListenersClosed)) => {}
            Ok(Some(EventMessage::Drain)) => end.notify_one(),
            Ok(Some(EventMessage::Drained)) => {
                tracing::info!("the old process has drained, and stays as the parent");
                return ControlFlow::Break(());
            }
            Ok(None) => {
                tracing::info!("the old process has ended");
                return ControlFlow::Break(());
            }
            Err(error) => {
                tracing::error!(%error, "the old process sent an invalid message");
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends the orders that differ from those already `given`.
    async fn forward(&mut self, given: ForwardedCommands, now: ForwardedCommands) {
        let knows_all = self.messages >= DECIDES;
        let lost = now.lost.filter(|_| given.lost.is_none() && knows_all);
        let news = [
            (now.reloads != given.reloads).then_some(CommandMessage::Reload),
            (now.reopens != given.reopens).then_some(CommandMessage::Reopen),
            (now.drain != given.drain).then_some(CommandMessage::Drain),
            (now.upgraded != given.upgraded && knows_all).then_some(CommandMessage::Followed),
            lost.map(|pid| CommandMessage::Lost { pid }),
        ];
        for order in news.iter().flatten() {
            self.send(order).await;
        }
    }

    /// Sends a command. If that fails, the old process has ended, and with it its connections.
    async fn send(&mut self, command: &CommandMessage) {
        self.sender.send(command).await.ok();
    }

    async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, InheritError> {
        let message = self.receiver.receive().await?;
        message.ok_or(InheritError::Dismissed)
    }
}

fn unexpected_message() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it sent an unexpected message")
}
