//! Stop taking connections, wait, and cut off who is left.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// How long those who were cut off have to leave.
const CUT_OFF_GRACE: Duration = Duration::from_secs(5);

/// Knows who is here, and asks them to leave. Clones are the same drain.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stays: TaskTracker,
    closing: CancellationToken,
    cutoff: CancellationToken,
}

/// One connection's stay, counted until it is dropped.
#[derive(Debug)]
#[must_use = "dropping a stay ends it"]
pub struct DrainGuard {
    _counted: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a drain may have cut connections off"]
pub enum Drained {
    /// Every connection ended by itself.
    Clean,
    /// The deadline came first.
    CutOff {
        /// How many connections it cut off.
        connections: usize,
    },
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more connection, unless the drain has begun.
    pub fn enter(&self) -> Option<DrainGuard> {
        self.let_in(self.count())
    }

    fn count(&self) -> DrainGuard {
        DrainGuard {
            _counted: self.stays.token(),
        }
    }

    /// Asks one that is counted already: whoever is admitted is waited for.
    fn let_in(&self, counted: DrainGuard) -> Option<DrainGuard> {
        (!self.is_begun()).then_some(counted)
    }

    /// From now on nobody enters.
    pub fn begin(&self) {
        self.closing.cancel();
        self.stays.close();
    }

    /// Whether the drain has begun.
    pub fn is_begun(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until the drain has begun. Cancel safe.
    pub async fn begun(&self) {
        self.closing.cancelled().await;
    }

    /// Waits until the deadline of the drain has passed. Cancel safe.
    pub async fn cut_off(&self) {
        self.cutoff.cancelled().await;
    }

    /// Cancelled when the drain begins.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Cancelled when the deadline has passed.
    pub fn cutoff(&self) -> &CancellationToken {
        &self.cutoff
    }

    /// How many connections are here.
    pub fn open(&self) -> usize {
        self.stays.len()
    }

    /// Begins, waits for everybody to leave, and cuts off those who are here after `deadline`.
    ///
    /// Dropping the future leaves the drain begun, and cuts off nobody.
    pub async fn finish(&self, deadline: Duration) -> Drained {
        self.begin();
        if timeout(deadline, self.stays.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let connections = self.open();
        self.cutoff.cancel();
        // One that does not even leave now must not keep everybody else from ending.
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
