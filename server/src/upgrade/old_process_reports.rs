//! The new process, as the old one sees it: the reports to it, and the orders from it.

use std::io;
use std::sync::Arc;

use host::channel::{MessageReceiver, MessageSender};
use tokio::sync::{Notify, mpsc};

use super::protocol::{CommandMessage, DECIDES, ENDS, EventMessage};
use super::supervision::Supervision;
use gateway::Gateway;
use gateway::connection_event::ConnectionEvent;
use gateway::remote_admission::RemoteAdmission;

/// Orders from the new process to the old one, and news about it, as [`ConnectionReports::run`]
/// passes them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldProcessCommand {
    /// Read the policy again.
    Reload,
    /// Open the file of access records again.
    Reopen,
    /// End within the time limit of a drain.
    Drain,
    /// End at once.
    End,
    /// Go on without the new process: a still newer one serves.
    Upgraded,
    /// The process with this ID, which served, has ended unexpectedly.
    NewProcessLost(u32),
    /// The new process has ended or cannot be reached.
    Disconnected,
}

/// News of the old process itself, which [`ConnectionReports::run`] reports to the new one. A new
/// process that does not know the message is not told.
#[derive(Debug, Default)]
pub(crate) struct OldProcessNews {
    end: Notify,
    drained: Notify,
}

impl OldProcessNews {
    /// Reports that the gateway is to end.
    pub(crate) fn report_end(&self) {
        self.end.notify_one();
    }

    /// Reports that no connection is left in the old process.
    pub(crate) fn report_drained(&self) {
        self.drained.notify_one();
    }
}

/// New process that serves, after the handover to it.
#[derive(Debug)]
pub(crate) struct NewProcess {
    pub(super) pid: u32,
    pub(super) supervision: Supervision,
    pub(super) handover: u32,
    pub(super) sender: MessageSender,
    pub(super) receiver: MessageReceiver,
    pub(super) remote_admission: Arc<RemoteAdmission>,
    pub(super) outgoing: mpsc::UnboundedReceiver<ConnectionEvent>,
    pub(super) connections: usize,
}

impl NewProcess {
    /// Returns its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the number of connections that this process had at the handover.
    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// Splits the new process into its supervision and the reports of this process's connections to
    /// it.
    pub(crate) fn split(self) -> (Supervision, ConnectionReports) {
        let reports = ConnectionReports {
            pid: self.pid,
            handover: self.handover,
            sender: self.sender,
            receiver: self.receiver,
            remote_admission: self.remote_admission,
            outgoing: self.outgoing,
        };
        (self.supervision, reports)
    }
}

/// Reports the connections of the old process to the new one.
#[derive(Debug)]
pub(crate) struct ConnectionReports {
    pid: u32,
    handover: u32,
    sender: MessageSender,
    receiver: MessageReceiver,
    remote_admission: Arc<RemoteAdmission>,
    outgoing: mpsc::UnboundedReceiver<ConnectionEvent>,
}

impl ConnectionReports {
    /// Returns true if the new process decides about this process's connections.
    pub(crate) fn decides_remotely(&self) -> bool {
        self.handover >= DECIDES
    }

    /// Reports this process's connections and `news` to the new process until that ends, and sends
    /// its orders to `orders`; the last one is [`OldProcessCommand::Disconnected`]. From then on
    /// this process decides about its connections itself.
    pub(crate) async fn run(
        self,
        gateway: Arc<Gateway>,
        news: Arc<OldProcessNews>,
        orders: mpsc::Sender<OldProcessCommand>,
    ) {
        let Self {
            pid,
            handover,
            mut sender,
            receiver,
            remote_admission,
            mut outgoing,
        } = self;
        let ended = tokio::select! {
            ended = hear(receiver, &remote_admission, &gateway, &orders) => ended,
            ended = report(&mut sender, &mut outgoing, &news, handover) => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, pid, "cannot communicate with the new process");
        }
        // In this order: a client that finds no process to ask is admitted locally.
        gateway.shared().connections().admit_locally();
        drop(outgoing);
        remote_admission.close();
        // The receiver is dropped if this process has ended its connections.
        orders.send(OldProcessCommand::Disconnected).await.ok();
    }
}

/// Carries out the new process's decisions about connections, and passes its orders on, until it
/// closes the socket.
async fn hear(
    mut receiver: MessageReceiver,
    remote_admission: &RemoteAdmission,
    gateway: &Gateway,
    orders: &mpsc::Sender<OldProcessCommand>,
) -> io::Result<()> {
    while let Some(message) = receiver.receive().await? {
        let command = match message {
            CommandMessage::Verdict(answer) => {
                remote_admission.answer(answer);
                continue;
            }
            CommandMessage::Cut { connection } => {
                gateway.shared().connections().end(connection);
                continue;
            }
            CommandMessage::Followed => {
                orders.send(OldProcessCommand::Upgraded).await.ok();
                continue;
            }
            CommandMessage::Lost { pid } => {
                orders
                    .send(OldProcessCommand::NewProcessLost(pid))
                    .await
                    .ok();
                continue;
            }
            CommandMessage::Reload => OldProcessCommand::Reload,
            CommandMessage::Reopen => OldProcessCommand::Reopen,
            CommandMessage::Drain => OldProcessCommand::Drain,
            CommandMessage::End => OldProcessCommand::End,
        };
        // If the channel is full, the gateway is about to end or to reload anyway.
        orders.try_send(command).ok();
    }
    Ok(())
}

/// Reports to the new process that the listeners are closed, and from then on the connections'
/// events and `news`, as far as that process knows the message.
async fn report(
    sender: &mut MessageSender,
    outgoing: &mut mpsc::UnboundedReceiver<ConnectionEvent>,
    news: &OldProcessNews,
    handover: u32,
) -> io::Result<()> {
    sender.send(&EventMessage::ListenersClosed).await?;
    loop {
        let message = tokio::select! {
            // No connection is left only after the end of the last one has been reported.
            biased;
            event = outgoing.recv() => match event {
                Some(event) => EventMessage::Connection(event),
                None => return Ok(()),
            },
            () = news.end.notified(), if handover >= ENDS => EventMessage::Drain,
            () = news.drained.notified(), if handover >= DECIDES => EventMessage::Drained,
        };
        sender.send(&message).await?;
    }
}
