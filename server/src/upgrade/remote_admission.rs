//! The process that follows, as the one that drains sees it: who counts the clients now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Carried, ToHeir, Verdict};

/// Tells the new process what becomes of the old one's connections, and asks it for those whose
/// handshakes were still under way.
#[derive(Debug)]
pub(crate) struct Heir {
    tell: mpsc::UnboundedSender<ToHeir>,
    asked: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    /// Those that were let in and have not yet entered, and whether they are to end all the same.
    admitted: Mutex<HashMap<u64, bool>>,
}

/// What the new process says of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// How long the client has waited, if it had to.
    pub(crate) waited: Option<Duration>,
}

impl Heir {
    /// An heir, and what it is to be told.
    #[expect(
        clippy::disallowed_methods,
        reason = "a connection has three messages at most, and connections are bounded; so are signals"
    )]
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<ToHeir>) {
        let (tell, told) = mpsc::unbounded_channel();
        let heir = Self {
            tell,
            asked: Mutex::default(),
            admitted: Mutex::default(),
        };
        (Arc::new(heir), told)
    }

    /// A connection has reached its upstream.
    pub(crate) fn dialed(&self, connection: u64, upstream: SocketAddr) {
        self.tell(ToHeir::Dialed {
            connection,
            upstream,
        });
    }

    /// A connection has ended.
    pub(crate) fn ended(&self, connection: u64) {
        self.tell(ToHeir::Ended { connection });
    }

    /// No connection is left.
    pub(crate) fn drained(&self) {
        self.tell(ToHeir::Drained);
    }

    /// The gateway is to end.
    pub(crate) fn drain(&self) {
        self.tell(ToHeir::Drain);
    }

    /// Whether a client may come in; `None` if there is nobody to answer any more. It may be long until the answer
    /// if the client may wait, and says how long it has `waited`. Whoever stops waiting takes the question back.
    pub(crate) async fn ask(&self, asked: Carried, waited: Option<Duration>) -> Option<Answer> {
        let Carried {
            connection,
            client,
            group,
            shown,
            ..
        } = asked;
        let (sender, answer) = oneshot::channel();
        self.asked.lock().insert(connection, sender);
        let mut question = Question {
            heir: self,
            connection,
            is_open: true,
        };
        self.tell(ToHeir::Arrived {
            connection,
            client,
            group,
            shown,
            waited,
        });
        if self.tell.is_closed() {
            return None;
        }
        let answer = answer.await.ok();
        question.is_open = false;
        answer
    }

    /// What the new process says of a client.
    pub(crate) fn answer(&self, connection: u64, answer: Answer) {
        let asked = self.asked.lock().remove(&connection);
        if asked.is_some() && answer.verdict == Verdict::Admitted {
            self.admitted.lock().insert(connection, false);
        }
        if let Some(asked) = asked
            && asked.send(answer).is_err()
        {
            // It has left meanwhile.
            self.admitted.lock().remove(&connection);
            self.ended(connection);
        }
    }

    /// A connection that was let in is to end, although it may not have entered yet.
    pub(crate) fn cut(&self, connection: u64) {
        if let Some(is_cut) = self.admitted.lock().get_mut(&connection) {
            *is_cut = true;
        }
    }

    /// A connection that was let in has entered. Returns whether it is to end already.
    pub(crate) fn has_entered(&self, connection: u64) -> bool {
        self.admitted.lock().remove(&connection).unwrap_or(false)
    }

    /// Nobody will answer any more.
    pub(crate) fn is_gone(&self) {
        self.asked.lock().clear();
    }

    fn tell(&self, message: ToHeir) {
        // Nobody counts any more if nobody hears it.
        self.tell.send(message).ok();
    }
}

/// A question that may be taken back.
struct Question<'a> {
    heir: &'a Heir,
    connection: u64,
    is_open: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        // If it was answered already, the answer is taken back too.
        if self.is_open {
            self.heir.asked.lock().remove(&self.connection);
            self.heir.admitted.lock().remove(&self.connection);
            self.heir.ended(self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    fn of(connection: u64) -> Carried {
        Carried {
            connection,
            client: "alice".to_owned(),
            group: "db".to_owned(),
            upstream: None,
            shown: None,
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_taken_back_or_left_alone() {
        let (heir, mut told) = Heir::new();
        let tasks = TaskTracker::new();
        let ask = |connection| {
            let heir = Arc::clone(&heir);
            tasks.spawn(async move { heir.ask(of(connection), None).await })
        };
        let answered = ask(1);
        assert!(matches!(
            told.recv().await,
            Some(ToHeir::Arrived { connection: 1, .. })
        ));
        let lapsed = Answer {
            verdict: Verdict::Lapsed,
            waited: None,
        };
        heir.answer(1, lapsed);
        assert_eq!(answered.await.unwrap(), Some(lapsed));

        let taken_back = ask(2);
        assert!(matches!(
            told.recv().await,
            Some(ToHeir::Arrived { connection: 2, .. })
        ));
        taken_back.abort();
        assert!(matches!(
            told.recv().await,
            Some(ToHeir::Ended { connection: 2 })
        ));

        let left_alone = ask(3);
        assert!(told.recv().await.is_some());
        drop(told);
        heir.is_gone();
        assert_eq!(left_alone.await.unwrap(), None);
        assert_eq!(heir.ask(of(4), None).await, None);
        assert!(heir.asked.lock().is_empty());
    }
}
