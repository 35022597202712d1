//! A process that serves, as the one that drains sees it.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::channel::{Receiver, Sender};
use super::old_process::Supervision;
use super::protocol::{DECIDES, ENDS, ToElder, ToHeir};
use super::remote_admission::{Answer, Heir};
use crate::gateway::Gateway;

/// What the process that follows wants of the one that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To read the policy again.
    Reload,
    /// To open the file of access records again.
    Reopen,
    /// To end within the drain's time.
    Drain,
    /// To end at once.
    End,
    /// To go on without it: yet another process serves.
    Followed,
    /// To know that the process is gone that followed it.
    Lost(u32),
    /// It cannot want anything any more: it is gone.
    Gone,
}

/// A new process that serves.
#[derive(Debug)]
pub struct Successor {
    pub(super) pid: u32,
    pub(super) supervision: Supervision,
    pub(super) handover: u32,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) heir: Arc<Heir>,
    pub(super) told: mpsc::UnboundedReceiver<ToHeir>,
    pub(super) carried: usize,
}

impl Successor {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// How many connections this process had when it was followed.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// Takes apart who notices its end, and what tells it of this process's connections.
    pub fn split(self) -> (Supervision, Reports) {
        let reports = Reports {
            pid: self.pid,
            handover: self.handover,
            sender: self.sender,
            receiver: self.receiver,
            heir: self.heir,
            told: self.told,
        };
        (self.supervision, reports)
    }
}

/// What tells a process that serves of the connections of one that drains.
#[derive(Debug)]
pub struct Reports {
    pid: u32,
    handover: u32,
    sender: Sender,
    receiver: Receiver,
    heir: Arc<Heir>,
    told: mpsc::UnboundedReceiver<ToHeir>,
}

impl Reports {
    /// Whether the process that serves decides about this process's connections.
    pub fn go_to_who_decides(&self) -> bool {
        self.handover >= DECIDES
    }

    /// Tells it what becomes of this process's connections, until it is gone; its orders go to
    /// `orders`.
    pub async fn tell(self, gateway: Arc<Gateway>, orders: mpsc::Sender<Order>) {
        let Self {
            pid,
            handover,
            mut sender,
            mut receiver,
            heir,
            mut told,
        } = self;
        let hearing = async {
            loop {
                match receiver.receive().await? {
                    Some(ToElder::Verdict {
                        connection,
                        verdict,
                        waited,
                    }) => heir.answer(connection, Answer { verdict, waited }),
                    Some(ToElder::Cut { connection }) => gateway.live().cut(connection),
                    // If many wait already, the gateway is about to end or to reload anyway.
                    Some(ToElder::Reload) => drop(orders.try_send(Order::Reload)),
                    Some(ToElder::Reopen) => drop(orders.try_send(Order::Reopen)),
                    Some(ToElder::Drain) => drop(orders.try_send(Order::Drain)),
                    Some(ToElder::End) => drop(orders.try_send(Order::End)),
                    Some(ToElder::Followed) => drop(orders.send(Order::Followed).await),
                    Some(ToElder::Lost { pid }) => drop(orders.send(Order::Lost(pid)).await),
                    Some(ToElder::Ready(_) | ToElder::Failed(_) | ToElder::Serving) => {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    None => return Ok(()),
                }
            }
        };
        let telling = async {
            sender.send(&ToHeir::Left).await?;
            while let Some(message) = told.recv().await {
                let is_known = (handover >= DECIDES || !matches!(message, ToHeir::Drained))
                    && (handover >= ENDS || !matches!(message, ToHeir::Drain));
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
            tracing::warn!(%error, pid, "the process that follows cannot be talked to");
        }
        // In this order: whoever finds nobody to ask finds that it decides itself.
        gateway.live().take_back();
        drop(told);
        heir.is_gone();
        // Nobody waits for orders any more if this process has ended its connections.
        orders.send(Order::Gone).await.ok();
    }
}
