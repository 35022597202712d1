//! The connections of an old process that are counted in the new one.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;

use crate::admission_wait::AdmissionWait;
use crate::connection_event::{
    AdmissionAnswer, AdmissionVerdict, ConnectionEvent, ConnectionState,
};
use crate::connection_table::EndRequests;
use crate::rejection::Rejection;
use crate::shared_state::SharedState;

/// Limit of pending admissions up to which a client of the old process may wait for a slot. All of
/// them are polled when one gets its slot.
const MAX_PENDING: usize = 1024;

/// Connections of an old process that this one counts and decides about.
pub struct RemoteConnections {
    /// This process's numbers of the connections, by the old process's numbers.
    ids: HashMap<u64, u64>,
    /// Channel that receives the numbers of connections that are to end.
    end_requests: EndRequests,
    /// Clients that have asked to be admitted.
    pending: Vec<PendingAdmission>,
}

/// A client that has asked to be admitted, and perhaps waits for a slot.
struct PendingAdmission {
    /// The old process's number of the connection.
    connection: u64,
    admission: Pin<Box<dyn Future<Output = AdmissionResult> + Send>>,
}

/// This process's number of a connection that was admitted, or the reason for its rejection, and
/// the time that the client has waited.
type AdmissionResult = (Result<u64, Rejection>, Option<Duration>);

impl fmt::Debug for RemoteConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteConnections")
            .field("numbers", &self.ids)
            .field("arrivals", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl RemoteConnections {
    /// Creates an empty set, and the channel of the old process's numbers of connections that are
    /// to end.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<u64>) {
        let (end_requests, to_end) = EndRequests::new();
        let ids = HashMap::new();
        let pending = Vec::new();
        let connections = Self {
            ids,
            end_requests,
            pending,
        };
        (connections, to_end)
    }

    /// Counts a connection that the old process has, regardless of the limits.
    pub fn insert(&mut self, shared: &SharedState, state: &ConnectionState) {
        if let Some(here) = shared.count_remote(state, &self.end_requests) {
            self.ids.insert(state.connection, here);
        }
    }

    /// Handles an event of a connection of the old process.
    pub fn handle(&mut self, shared: &Arc<SharedState>, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Arrived {
                connection,
                client,
                group,
                credentials,
                waited,
            } => {
                let state = ConnectionState {
                    connection,
                    client,
                    group,
                    upstream: None,
                    credentials,
                };
                self.begin_admission(Arc::clone(shared), state, waited);
            }
            ConnectionEvent::Dialed {
                connection,
                upstream,
            } => {
                if let Some(&here) = self.ids.get(&connection) {
                    shared.remote_dialed(here, upstream);
                }
            }
            ConnectionEvent::Ended { connection } => {
                // One that is not admitted yet withdraws its request.
                self.pending.retain(|one| one.connection != connection);
                if let Some(here) = self.ids.remove(&connection) {
                    shared.connections().remove_remote(here);
                }
            }
        }
    }

    fn begin_admission(
        &mut self,
        shared: Arc<SharedState>,
        state: ConnectionState,
        waited: Option<Duration>,
    ) {
        let end_requests = self.end_requests.clone();
        let waited = waited.filter(|_| self.pending.len() < MAX_PENDING);
        self.pending.push(PendingAdmission {
            connection: state.connection,
            admission: Box::pin(async move {
                let mut wait = AdmissionWait::default();
                let entering = shared.admit_remote(&state, &end_requests, waited, &mut wait);
                (entering.await, wait.so_far())
            }),
        });
    }

    /// Waits until one of the pending admissions is decided, and returns the answer to it. Cancel
    /// safe.
    pub async fn decided(&mut self) -> AdmissionAnswer {
        // With tokio's cooperative budget those behind the first hundred would never be polled.
        unconstrained(poll_fn(|cx| self.poll_decided(cx))).await
    }

    fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<AdmissionAnswer> {
        let mut pending = self.pending.iter_mut().enumerate();
        let decided = pending.find_map(|(index, one)| match one.admission.as_mut().poll(cx) {
            Poll::Ready(entered) => Some((index, entered)),
            Poll::Pending => None,
        });
        let Some((index, (entered, waited))) = decided else {
            return Poll::Pending;
        };
        let PendingAdmission { connection, .. } = self.pending.remove(index);
        let verdict = AdmissionVerdict::of(&entered);
        if let Ok(here) = entered {
            self.ids.insert(connection, here);
        }
        Poll::Ready(AdmissionAnswer {
            connection,
            verdict,
            waited,
        })
    }

    /// Stops counting all of them: the old process has ended or drained.
    pub fn release_all(self, shared: &SharedState) {
        for connection in self.ids.into_values() {
            shared.connections().remove_remote(connection);
        }
    }
}
