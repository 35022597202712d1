//! The new process, as the old one sees it: what it reports and what it orders.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::channel::{MessageReceiver, MessageSender};
use super::old_process::Supervision;
use super::protocol::{DECIDES, ENDS, ToNewProcess, ToOldProcess};
use super::remote_admission::{AdmissionAnswer, RemoteAdmission};
use crate::gateway::Gateway;

/// What the new process orders the old one to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldProcessCommand {
    /// To read the policy again.
    Reload,
    /// To open the file of access records again.
    Reopen,
    /// To end within the drain's time.
    Drain,
    /// To end at once.
    End,
    /// To go on without it: yet another process serves.
    Upgraded,
    /// To know that the new process is gone.
    NewProcessLost(u32),
    /// It cannot want anything any more: it is gone.
    Disconnected,
}

/// A new process that serves.
#[derive(Debug)]
pub struct NewProcess {
    pub(super) pid: u32,
    pub(super) supervision: Supervision,
    pub(super) handover: u32,
    pub(super) sender: MessageSender,
    pub(super) receiver: MessageReceiver,
    pub(super) remote_admission: Arc<RemoteAdmission>,
    pub(super) outgoing: mpsc::UnboundedReceiver<ToNewProcess>,
    pub(super) connections: usize,
}

impl NewProcess {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How many connections this process had at the handover.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Takes apart who notices its end, and what tells it of this process's connections.
    pub fn split(self) -> (Supervision, ConnectionReports) {
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
pub struct ConnectionReports {
    pid: u32,
    handover: u32,
    sender: MessageSender,
    receiver: MessageReceiver,
    remote_admission: Arc<RemoteAdmission>,
    outgoing: mpsc::UnboundedReceiver<ToNewProcess>,
}

impl ConnectionReports {
    /// Whether the process that serves decides about this process's connections.
    pub fn decides_remotely(&self) -> bool {
        self.handover >= DECIDES
    }

    /// Tells it what becomes of this process's connections, until it is gone; its orders go to
    /// `orders`.
    pub async fn run(self, gateway: Arc<Gateway>, orders: mpsc::Sender<OldProcessCommand>) {
        let Self {
            pid,
            handover,
            mut sender,
            mut receiver,
            remote_admission,
            mut outgoing,
        } = self;
        let hearing = async {
            loop {
                match receiver.receive().await? {
                    Some(ToOldProcess::Verdict {
                        connection,
                        verdict,
                        waited,
                    }) => remote_admission.answer(connection, AdmissionAnswer { verdict, waited }),
                    Some(ToOldProcess::Cut { connection }) => gateway.connections().end(connection),
                    // If many wait already, the gateway is about to end or to reload anyway.
                    Some(ToOldProcess::Reload) => drop(orders.try_send(OldProcessCommand::Reload)),
                    Some(ToOldProcess::Reopen) => drop(orders.try_send(OldProcessCommand::Reopen)),
                    Some(ToOldProcess::Drain) => drop(orders.try_send(OldProcessCommand::Drain)),
                    Some(ToOldProcess::End) => drop(orders.try_send(OldProcessCommand::End)),
                    Some(ToOldProcess::Followed) => {
                        orders.send(OldProcessCommand::Upgraded).await.ok();
                    }
                    Some(ToOldProcess::Lost { pid }) => {
                        orders
                            .send(OldProcessCommand::NewProcessLost(pid))
                            .await
                            .ok();
                    }
                    Some(
                        ToOldProcess::Ready(_) | ToOldProcess::Failed(_) | ToOldProcess::Serving,
                    ) => {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    None => return Ok(()),
                }
            }
        };
        let telling = async {
            sender.send(&ToNewProcess::ListenersClosed).await?;
            while let Some(message) = outgoing.recv().await {
                let is_known = (handover >= DECIDES || !matches!(message, ToNewProcess::Drained))
                    && (handover >= ENDS || !matches!(message, ToNewProcess::Drain));
                if is_known {
                    sender.send(&message).await?;
                }
            }
            Ok(())
        };
        let ended: io::Result<()> = tokio::select! {
            ended = hearing => ended,
            ended = telling => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, pid, "cannot communicate with the new process");
        }
        // In this order: whoever finds nobody to ask finds that it decides itself.
        gateway.connections().admit_locally();
        drop(outgoing);
        remote_admission.close();
        // Nobody waits for orders any more if this process has ended its connections.
        orders.send(OldProcessCommand::Disconnected).await.ok();
    }
}
