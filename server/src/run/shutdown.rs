//! The end of a gateway: no connection is accepted any more, open ones may finish, and what is left
//! is cut off.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use lb::Drained;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use gateway::Gateway;
use gateway::shared_state::QueuedConnections;

/// The end of a gateway, if it has begun. It proceeds as a task of its own, which is aborted when
/// this is dropped.
#[derive(Debug, Default)]
pub(super) struct GatewayShutdown(Option<ShutdownTask>);

#[derive(Debug)]
struct ShutdownTask {
    /// Deadline of the open connections; `None` if they have none.
    limit: watch::Sender<Option<Instant>>,
    drained: AbortOnDropHandle<Drained>,
    /// True if an older process has reported the end, and no signal for it has been received yet.
    is_forwarded: bool,
}

impl GatewayShutdown {
    /// Begins the end, which has no time limit yet; has no effect if it has begun.
    pub(super) fn begin(
        &mut self,
        tasks: &TaskTracker,
        gateway: &Arc<Gateway>,
        queued: QueuedConnections,
    ) {
        if self.0.is_some() {
            return;
        }
        let (limit, limited) = watch::channel(None);
        let ending = end(Arc::clone(gateway), queued, limited);
        let drained = AbortOnDropHandle::new(tasks.spawn(ending));
        self.0 = Some(ShutdownTask {
            limit,
            drained,
            is_forwarded: false,
        });
    }

    /// Limits the time of the open connections to `most` from now; an earlier deadline is kept. Has
    /// no effect before [`Self::begin`].
    pub(super) fn limit(&self, most: Duration) {
        if let Some(underway) = &self.0 {
            // A time that cannot be represented counts as no limit.
            let Some(new) = Instant::now().checked_add(most) else {
                return;
            };
            underway.limit.send_modify(|limit| {
                *limit = Some(limit.map_or(new, |old| old.min(new)));
            });
        }
    }

    /// Records that the end was reported by an older process; [`Self::next_limit`] depends on it.
    pub(super) fn note_forwarded(&mut self) {
        if let Some(underway) = &mut self.0 {
            underway.is_forwarded = true;
        }
    }

    /// Returns the time limit that a signal to end sets for the open connections: `usual` for the
    /// first signal, zero for the second.
    ///
    /// `None` if the limit stays as it is: a supervisor may signal the process that reports the end
    /// and this one at once, which counts as one order.
    pub(super) fn next_limit(&mut self, usual: Duration) -> Option<Duration> {
        if !self.is_limited() {
            return Some(usual);
        }
        let passed_on = self.0.as_mut().map(|underway| &mut underway.is_forwarded);
        let is_same = passed_on.is_some_and(std::mem::take);
        (!is_same).then_some(Duration::ZERO)
    }

    /// Returns true if the open connections have a deadline.
    pub(super) fn is_limited(&self) -> bool {
        let underway = self.0.as_ref();
        underway.is_some_and(|underway| underway.limit.borrow().is_some())
    }

    /// Waits until the end is complete; never returns if it has not begun. Cancel safe.
    pub(super) async fn finished(&mut self) -> Drained {
        let Some(underway) = &mut self.0 else {
            return pending().await;
        };
        (&mut underway.drained).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the drain failed");
            Drained::CutOff { connections: 0 }
        })
    }
}

async fn end(
    gateway: Arc<Gateway>,
    queued: QueuedConnections,
    mut limited: watch::Receiver<Option<Instant>>,
) -> Drained {
    let left = async {
        gateway.close(queued).await;
        gateway.drain().finish(Duration::MAX).await
    };
    tokio::select! {
        drained = left => drained,
        () = passed(&mut limited) => {
            gateway.close_listeners();
            gateway.drain().finish(Duration::ZERO).await
        }
    }
}

/// Waits until the deadline has passed, even if it changes meanwhile.
async fn passed(limited: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let limit = *limited.borrow_and_update();
        let passed = async {
            match limit {
                Some(limit) => sleep_until(limit).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = passed => return,
            changed = limited.changed() => if changed.is_err() {
                return pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::test_support::gateway;

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_while_a_worker_goes_on_accepting_and_can_be_shortened() {
        for (limits, over) in [
            (vec![900], 900),
            (vec![900, 300], 300),
            (vec![300, 900], 300),
        ] {
            let (_files, gateway) = gateway();
            let tasks = TaskTracker::new();
            tasks.spawn(gateway.shared().acceptors().track_future(pending::<()>()));
            let mut ending = GatewayShutdown::default();
            ending.begin(&tasks, &gateway, QueuedConnections::Ours);
            let begin = Instant::now();
            for limit in limits {
                ending.limit(Duration::from_millis(limit));
            }
            assert_eq!(ending.finished().await, Drained::Clean);
            let took = begin.elapsed();
            assert!((over..over + 100).contains(&took.as_millis()), "{took:?}");
        }
    }

    #[tokio::test]
    async fn the_second_signal_ends_at_once_and_what_was_passed_on_and_came_by_signal_too_counts_once()
     {
        let (_files, gateway) = gateway();
        let tasks = TaskTracker::new();
        let usual = Duration::from_secs(30);
        for is_passed_on in [false, true] {
            let mut ending = GatewayShutdown::default();
            assert_eq!(ending.next_limit(usual), Some(usual));
            ending.begin(&tasks, &gateway, QueuedConnections::Ours);
            ending.limit(usual);
            if is_passed_on {
                ending.note_forwarded();
                assert_eq!(ending.next_limit(usual), None);
            }
            assert_eq!(ending.next_limit(usual), Some(Duration::ZERO));
        }
    }
}
