//! The connections of a process that drains, as the process that serves counts them.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;

use super::protocol::{Carried, ToElder, ToHeir, Verdict};
use crate::connection_table::Cut;
use crate::gateway::{Gateway, Wait};
use crate::rejection::Rejection;

/// How many of its clients may wait for a place here. All that have asked are looked at when one of them gets its
/// place.
const WAITING: usize = 1024;

/// The old process's connections that are counted in the new one.
pub(crate) struct RemoteConnections {
    /// The old process's numbers, and this one's.
    numbers: HashMap<u64, u64>,
    /// Where those are named that are to end.
    cut: Cut,
    /// Those that have asked whether they may come in.
    arrivals: Vec<Arrival>,
}

/// One that has asked, and perhaps waits for a place.
struct Arrival {
    /// The old process's number.
    connection: u64,
    entering: Pin<Box<dyn Future<Output = Entered> + Send>>,
}

/// This process's number of a connection that has come in, or why it has not, and how long it has waited.
type Entered = (Result<u64, Rejection>, Option<Duration>);

impl fmt::Debug for RemoteConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteConnections")
            .field("numbers", &self.numbers)
            .field("arrivals", &self.arrivals.len())
            .finish_non_exhaustive()
    }
}

impl RemoteConnections {
    /// None yet, and where the old process's numbers come out of those that are to end.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<u64>) {
        let (cut, cuts) = Cut::new();
        let numbers = HashMap::new();
        let arrivals = Vec::new();
        let connections = Self {
            numbers,
            cut,
            arrivals,
        };
        (connections, cuts)
    }

    /// Counts a connection that the old process has, whatever the limits say.
    pub(crate) fn take_over(&mut self, gateway: &Gateway, carried: &Carried) {
        if let Some(here) = gateway.take_over(carried, &self.cut) {
            self.numbers.insert(carried.connection, here);
        }
    }

    /// Takes note of what the old process says of a connection.
    pub(crate) fn note(&mut self, gateway: &Arc<Gateway>, message: ToHeir) {
        match message {
            ToHeir::Arrived {
                connection,
                client,
                group,
                shown,
                waited,
            } => {
                let arrived = Carried {
                    connection,
                    client,
                    group,
                    upstream: None,
                    shown,
                };
                self.arrives(Arc::clone(gateway), arrived, waited);
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
                // One that has not come in yet takes its question back.
                self.arrivals
                    .retain(|arrival| arrival.connection != connection);
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
    }

    fn arrives(&mut self, gateway: Arc<Gateway>, arrived: Carried, waited: Option<Duration>) {
        let cut = self.cut.clone();
        let waited = waited.filter(|_| self.arrivals.len() < WAITING);
        self.arrivals.push(Arrival {
            connection: arrived.connection,
            entering: Box::pin(async move {
                let mut wait = Wait::default();
                let entering = gateway.enter_elsewhere(&arrived, &cut, waited, &mut wait);
                (entering.await, wait.so_far())
            }),
        });
    }

    /// Waits until it is decided about one that has asked. Returns the answer. Cancel safe.
    pub(crate) async fn decided(&mut self) -> ToElder {
        // Otherwise those behind the first hundred would never get their turn.
        unconstrained(poll_fn(|cx| self.poll_decided(cx))).await
    }

    fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<ToElder> {
        let mut arrivals = self.arrivals.iter_mut().enumerate();
        let decided =
            arrivals.find_map(
                |(index, arrival)| match arrival.entering.as_mut().poll(cx) {
                    Poll::Ready(entered) => Some((index, entered)),
                    Poll::Pending => None,
                },
            );
        let Some((index, (entered, waited))) = decided else {
            return Poll::Pending;
        };
        let Arrival { connection, .. } = self.arrivals.remove(index);
        let verdict = Verdict::of(&entered);
        if let Ok(here) = entered {
            self.numbers.insert(connection, here);
        }
        Poll::Ready(ToElder::Verdict {
            connection,
            verdict,
            waited,
        })
    }

    /// Counts none of them any more: the old process has ended.
    pub(crate) fn release_all(self, gateway: &Gateway) {
        for connection in self.numbers.into_values() {
            gateway.live().release(connection);
        }
    }
}
