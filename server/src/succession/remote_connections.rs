//! The connections of a process that drains, as the process that serves counts them.

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::message::{Carried, ToElder, ToHeir, Verdict};
use crate::gateway::Gateway;
use crate::live::Cut;

/// The old process's connections that are counted in the new one.
#[derive(Debug)]
pub(crate) struct RemoteConnections {
    /// The old process's numbers, and this one's.
    numbers: HashMap<u64, u64>,
    /// Where those are named that are to end.
    cut: Cut,
}

impl RemoteConnections {
    /// None yet, and where the old process's numbers come out of those that are to end.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<u64>) {
        let (cut, cuts) = Cut::new();
        let numbers = HashMap::new();
        (Self { numbers, cut }, cuts)
    }

    /// Counts a connection that the old process has, whatever the limits say.
    pub(crate) fn take_over(&mut self, gateway: &Gateway, carried: &Carried) {
        if let Some(here) = gateway.take_over(carried, &self.cut) {
            self.numbers.insert(carried.connection, here);
        }
    }

    /// Takes note of what the old process says of a connection. Returns the answer, if it waits for one.
    pub(crate) async fn note(&mut self, gateway: &Gateway, message: ToHeir) -> Option<ToElder> {
        match message {
            ToHeir::Arrived {
                connection,
                client,
                group,
                shown,
            } => {
                let arrived = Carried {
                    connection,
                    client,
                    group,
                    upstream: None,
                    shown,
                };
                let entered = gateway.enter_elsewhere(&arrived, &self.cut).await;
                let verdict = Verdict::of(&entered);
                if let Ok(here) = entered {
                    self.numbers.insert(connection, here);
                }
                return Some(ToElder::Verdict {
                    connection,
                    verdict,
                });
            }
            ToHeir::Dialed {
                connection,
                upstream,
            } => {
                if let Some(&here) = self.numbers.get(&connection) {
                    gateway.dialed_elsewhere(here, upstream);
                }
            }
            ToHeir::Ended { connection } => {
                if let Some(here) = self.numbers.remove(&connection) {
                    gateway.live().release(here);
                }
            }
            ToHeir::Hello { .. }
            | ToHeir::Listeners(_)
            | ToHeir::Health(_)
            | ToHeir::Prepare
            | ToHeir::Connections(_)
            | ToHeir::Parent
            | ToHeir::Serve
            | ToHeir::Drained
            | ToHeir::Drain
            | ToHeir::Left => {}
        }
        None
    }

    /// Counts none of them any more: the old process has ended.
    pub(crate) fn release_all(self, gateway: &Gateway) {
        for connection in self.numbers.into_values() {
            gateway.live().release(connection);
        }
    }
}
