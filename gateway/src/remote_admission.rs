//! Admission of the old process's clients by the new process, which counts them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::connection_event::{
    AdmissionAnswer, AdmissionVerdict, ConnectionEvent, ConnectionState,
};

/// Reports the old process's connections to the new one, and asks it to admit clients whose
/// handshakes were still in progress.
#[derive(Debug)]
pub struct RemoteAdmission {
    outgoing: mpsc::UnboundedSender<ConnectionEvent>,
    pending: Mutex<HashMap<u64, oneshot::Sender<AdmissionAnswer>>>,
    /// Connections that were admitted and have not yet entered the connection table; true for those
    /// that are to end all the same.
    admitted: Mutex<HashMap<u64, bool>>,
}

impl RemoteAdmission {
    /// Creates the admission by another process, and the channel of events that are to be reported
    /// to it.
    #[expect(
        clippy::disallowed_methods,
        reason = "a connection has three events at most, and connections are bounded"
    )]
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<ConnectionEvent>) {
        let (tell, outgoing) = mpsc::unbounded_channel();
        let remote_admission = Self {
            outgoing: tell,
            pending: Mutex::default(),
            admitted: Mutex::default(),
        };
        (Arc::new(remote_admission), outgoing)
    }

    /// Reports that a connection is connected to its upstream.
    pub(crate) fn dialed(&self, connection: u64, upstream: SocketAddr) {
        self.send(ConnectionEvent::Dialed {
            connection,
            upstream,
        });
    }

    /// Reports that a connection has ended.
    pub(crate) fn ended(&self, connection: u64) {
        self.send(ConnectionEvent::Ended { connection });
    }

    /// Asks the new process to admit a client. Returns `None` if the new process cannot answer any
    /// more.
    ///
    /// `waited` is the time that the client has waited for a slot already, or `None` if it may not
    /// wait; if it may, the answer can take long. Dropping the future withdraws the request.
    pub(crate) async fn request(
        &self,
        asked: ConnectionState,
        waited: Option<Duration>,
    ) -> Option<AdmissionAnswer> {
        let ConnectionState {
            connection,
            client,
            group,
            credentials,
            ..
        } = asked;
        let (sender, answer) = oneshot::channel();
        self.pending.lock().insert(connection, sender);
        let mut question = RequestGuard {
            remote_admission: self,
            connection,
            is_open: true,
        };
        self.send(ConnectionEvent::Arrived {
            connection,
            client,
            group,
            credentials,
            waited,
        });
        if self.outgoing.is_closed() {
            return None;
        }
        let answer = answer.await.ok();
        question.is_open = false;
        answer
    }

    /// Delivers the new process's answer about a client to the `request` that waits for it.
    /// If that was dropped meanwhile, the connection is reported as ended.
    pub fn answer(&self, answer: AdmissionAnswer) {
        let connection = answer.connection;
        let asked = self.pending.lock().remove(&connection);
        if asked.is_some() && answer.verdict == AdmissionVerdict::Admitted {
            self.admitted.lock().insert(connection, false);
        }
        if let Some(asked) = asked
            && asked.send(answer).is_err()
        {
            // The request was dropped meanwhile.
            self.admitted.lock().remove(&connection);
            self.ended(connection);
        }
    }

    /// Ends a connection that was admitted, although it may not have entered the connection table
    /// yet; [`Self::confirm_entered`] returns true for it.
    pub(crate) fn end(&self, connection: u64) {
        if let Some(is_cut) = self.admitted.lock().get_mut(&connection) {
            *is_cut = true;
        }
    }

    /// Confirms that an admitted connection has entered the connection table. Returns true if it is
    /// to end already.
    pub(crate) fn confirm_entered(&self, connection: u64) -> bool {
        self.admitted.lock().remove(&connection).unwrap_or(false)
    }

    /// Drops all pending requests: no process will answer them.
    pub fn close(&self) {
        self.pending.lock().clear();
    }

    fn send(&self, event: ConnectionEvent) {
        // If the channel is closed, no other process counts the connections.
        self.outgoing.send(event).ok();
    }
}

/// Withdraws a pending request when dropped.
struct RequestGuard<'a> {
    remote_admission: &'a RemoteAdmission,
    connection: u64,
    is_open: bool,
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        // If it was answered already, the answer is withdrawn too.
        if self.is_open {
            self.remote_admission
                .pending
                .lock()
                .remove(&self.connection);
            self.remote_admission
                .admitted
                .lock()
                .remove(&self.connection);
            self.remote_admission.ended(self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    fn of(connection: u64) -> ConnectionState {
        ConnectionState {
            connection,
            client: "alice".to_owned(),
            group: "db".to_owned(),
            upstream: None,
            credentials: None,
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_taken_back_or_left_alone() {
        let (remote_admission, mut outgoing) = RemoteAdmission::new();
        let tasks = TaskTracker::new();
        let ask = |connection| {
            let remote_admission = Arc::clone(&remote_admission);
            tasks.spawn(async move { remote_admission.request(of(connection), None).await })
        };
        let answered = ask(1);
        assert!(matches!(
            outgoing.recv().await,
            Some(ConnectionEvent::Arrived { connection: 1, .. })
        ));
        let revoked = AdmissionAnswer {
            connection: 1,
            verdict: AdmissionVerdict::Revoked,
            waited: None,
        };
        remote_admission.answer(revoked);
        assert_eq!(answered.await.unwrap(), Some(revoked));

        let taken_back = ask(2);
        assert!(matches!(
            outgoing.recv().await,
            Some(ConnectionEvent::Arrived { connection: 2, .. })
        ));
        taken_back.abort();
        assert!(matches!(
            outgoing.recv().await,
            Some(ConnectionEvent::Ended { connection: 2 })
        ));

        let left_alone = ask(3);
        assert!(outgoing.recv().await.is_some());
        drop(outgoing);
        remote_admission.close();
        assert_eq!(left_alone.await.unwrap(), None);
        assert_eq!(remote_admission.request(of(4), None).await, None);
        assert!(remote_admission.pending.lock().is_empty());
    }
}
