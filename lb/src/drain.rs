//! Orderly stop: no new connections, a wait for the open ones, and a cut-off of those that remain.
#![expect(clippy::disallowed_methods, reason = "it waits, until a deadline")]

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Time that connections have to end after they were cut off.
const CUT_OFF_GRACE: Duration = Duration::from_secs(5);

/// Counts the open connections, and signals them to end. Clones are the same drain.
///
/// ```
/// use std::time::Duration;
///
/// use lb::{Drain, Drained};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let drain = Drain::new();
/// let connection = drain.enter().expect("it has not begun");
/// assert_eq!(drain.open(), 1);
/// let serve = async {
///     // A connection that has nothing to finish ends with the cut-off.
///     drain.cut_off().await;
///     drop(connection);
/// };
/// let (drained, ()) = tokio::join!(drain.finish(Duration::from_millis(10)), serve);
/// assert_eq!(drained, Drained::CutOff { connections: 1 });
/// assert!(drain.enter().is_none());
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Drain {
    stays: TaskTracker,
    closing: CancellationToken,
    cutoff: CancellationToken,
}

/// One counted connection of a [`Drain`]; it counts until it is dropped.
#[derive(Debug)]
#[must_use = "dropping a stay ends it"]
pub struct DrainGuard {
    _counted: TaskTrackerToken,
}

/// Result of [`Drain::finish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a drain may have cut connections off"]
pub enum Drained {
    /// Every connection ended by itself.
    Clean,
    /// The deadline passed before every connection had ended.
    CutOff {
        /// Number of connections that were cut off.
        connections: usize,
    },
}

impl Drain {
    /// Makes a drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more connection. Returns `None` if the drain has begun.
    pub fn enter(&self) -> Option<DrainGuard> {
        self.let_in(self.count())
    }

    fn count(&self) -> DrainGuard {
        DrainGuard {
            _counted: self.stays.token(),
        }
    }

    /// Admits a connection that is counted already. It is counted before the check, so that every
    /// admitted connection is waited for.
    fn let_in(&self, counted: DrainGuard) -> Option<DrainGuard> {
        (!self.is_begun()).then_some(counted)
    }

    /// Begins the drain: from now on no connection is admitted.
    pub fn begin(&self) {
        self.closing.cancel();
        self.stays.close();
    }

    /// Returns true if the drain has begun.
    pub fn is_begun(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until the drain has begun. Cancel safe.
    pub async fn begun(&self) {
        self.closing.cancelled().await;
    }

    /// Waits until the deadline of [`Drain::finish`] has passed. Cancel safe.
    pub async fn cut_off(&self) {
        self.cutoff.cancelled().await;
    }

    /// Token that is cancelled when the drain begins.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Token that is cancelled when the deadline of [`Drain::finish`] has passed.
    pub fn cutoff(&self) -> &CancellationToken {
        &self.cutoff
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.stays.len()
    }

    /// Begins the drain, waits for every connection to end, and cuts off those that are open after
    /// `deadline`. A connection that does not end within 5 s of that is no longer waited for.
    ///
    /// Dropping the future leaves the drain begun, and cuts off no connection.
    pub async fn finish(&self, deadline: Duration) -> Drained {
        self.begin();
        if timeout(deadline, self.stays.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let connections = self.open();
        self.cutoff.cancel();
        // A connection that ignores the cut-off must not keep the others from ending.
        drop(timeout(CUT_OFF_GRACE, self.stays.wait()).await);
        if connections == 0 {
            Drained::Clean
        } else {
            Drained::CutOff { connections }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_those_who_are_here_and_lets_nobody_in() {
        let drain = Drain::new();
        let stay = drain.enter().unwrap();
        let leaving = async {
            drain.begun().await;
            assert!(drain.enter().is_none(), "nobody enters");
            assert_eq!(drain.open(), 1, "who was turned away is not counted");
            tokio::time::sleep(SECOND).await;
            drop(stay);
        };
        let (drained, ()) = tokio::join!(drain.finish(2 * SECOND), leaving);
        assert_eq!(drained, Drained::Clean);
        assert!(!drain.cutoff().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_cuts_off_who_is_here_after_the_deadline() {
        let drain = Drain::new();
        let stays = [drain.enter().unwrap(), drain.enter().unwrap()];
        let leaving = async {
            drain.cut_off().await;
            drop(stays);
        };
        let (drained, ()) = tokio::join!(drain.finish(SECOND), leaving);
        assert_eq!(drained, Drained::CutOff { connections: 2 });
        assert_eq!(drain.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_never_leaves_does_not_keep_the_others_from_ending() {
        let drain = Drain::new();
        let _stuck = drain.enter().unwrap();
        assert_eq!(
            drain.finish(SECOND).await,
            Drained::CutOff { connections: 1 }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_comes_while_the_drain_begins_is_waited_for_until_it_was_turned_away() {
        let drain = Drain::new();
        let counted = drain.count();
        let turned_away = async {
            tokio::time::sleep(SECOND).await;
            assert!(drain.let_in(counted).is_none());
        };
        let begun = tokio::time::Instant::now();
        let (drained, ()) = tokio::join!(drain.finish(2 * SECOND), turned_away);
        assert_eq!((drained, begun.elapsed()), (Drained::Clean, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_drain_is_clean_at_once_and_again() {
        let drain = Drain::new();
        assert_eq!(drain.finish(Duration::ZERO).await, Drained::Clean);
        assert_eq!(drain.clone().finish(Duration::ZERO).await, Drained::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_drain_hears_of_its_begin_and_of_its_deadline() {
        let drain = Drain::new();
        let begun = timeout(SECOND, drain.begun());
        assert!(begun.await.is_err(), "it has not begun");
        let _stuck = drain.enter().unwrap();
        let (closing, cutoff) = (drain.closing().clone(), drain.cutoff().clone());
        assert!(!closing.is_cancelled());
        let finishing = drain.finish(SECOND);
        let heard = async {
            closing.cancelled().await;
            drain.begun().await;
            assert!(!cutoff.is_cancelled());
            cutoff.cancelled().await;
        };
        let (drained, ()) = tokio::join!(finishing, heard);
        assert_eq!(drained, Drained::CutOff { connections: 1 });
    }
}
