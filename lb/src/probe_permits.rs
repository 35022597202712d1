//! Permits for probes: a bounded number, shared fairly by the groups that wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::limit::SharedName;

/// A bounded number of permits. Groups that wait get them in turn, regardless of the number of
/// permits that each waits for.
#[derive(Debug)]
pub(crate) struct ProbePermits {
    state: Mutex<PermitState>,
}

/// Permit of one probe, handed on when it is dropped.
#[derive(Debug)]
#[must_use = "dropping a permit hands it on"]
pub(crate) struct ProbePermit {
    permits: Arc<ProbePermits>,
}

#[derive(Debug)]
struct PermitState {
    /// Number of free permits; it is zero while any group waits.
    free: usize,
    waiting: HashMap<SharedName, VecDeque<oneshot::Sender<ProbePermit>>>,
    /// The groups that wait, once each, in the order in which they get a permit.
    turns: VecDeque<SharedName>,
}

impl ProbePermits {
    pub(crate) fn new(free: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(PermitState {
                free,
                waiting: HashMap::new(),
                turns: VecDeque::new(),
            }),
        })
    }

    /// Waits for a permit. Cancel safe.
    pub(crate) async fn acquire(self: &Arc<Self>, group: &SharedName) -> ProbePermit {
        let handed = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return ProbePermit {
                    permits: Arc::clone(self),
                };
            }
            state.wait(group)
        };
        handed.await.expect("a waiter that listens is handed one")
    }

    fn hand_on(self: &Arc<Self>) {
        let next = {
            let mut state = self.state.lock();
            let next = state.next();
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some(waiter) = next {
            let permits = Arc::clone(self);
            // A waiter that left at this moment drops the permit, which hands it on again.
            drop(waiter.send(ProbePermit { permits }));
        }
    }
}

impl PermitState {
    fn wait(&mut self, group: &SharedName) -> oneshot::Receiver<ProbePermit> {
        let (waiter, handed) = oneshot::channel();
        let queue = self.waiting.entry(Arc::clone(group)).or_default();
        if queue.is_empty() {
            self.turns.push_back(Arc::clone(group));
        }
        queue.push_back(waiter);
        handed
    }

    /// Takes the next waiter that still listens, of the group whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<ProbePermit>> {
        while let Some(group) = self.turns.pop_front() {
            let mut queue = self.waiting.remove(&group).unwrap_or_default();
            let next = std::iter::from_fn(|| queue.pop_front()).find(|waiter| !waiter.is_closed());
            if !queue.is_empty() {
                self.waiting.insert(Arc::clone(&group), queue);
                self.turns.push_back(group);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Drop for ProbePermit {
    fn drop(&mut self) {
        self.permits.hand_on();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// The output of a future that is ready at once.
    fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_group_that_waits_with_thousands_keeps_no_other_from_its_turn() {
        let permits = ProbePermits::new(1);
        let (busy, calm): (SharedName, SharedName) = ("busy".into(), "calm".into());
        let held = poll_once(pin!(permits.acquire(&busy))).unwrap();
        let mut waiting: Vec<_> = (0..3000)
            .map(|_| Box::pin(permits.acquire(&busy)))
            .collect();
        for one in &mut waiting {
            assert!(poll_once(one.as_mut()).is_none());
        }
        let mut other = pin!(permits.acquire(&calm));
        assert!(poll_once(other.as_mut()).is_none());
        drop(held);
        let first = poll_once(waiting[0].as_mut()).expect("it was first");
        drop(first);
        assert!(
            poll_once(other.as_mut()).is_some(),
            "it waits for one probe of the other group, not for thousands"
        );
    }

    #[test]
    fn a_permit_is_lost_neither_to_waiters_that_left_nor_to_one_that_leaves_with_it() {
        let permits = ProbePermits::new(1);
        let group: SharedName = "ledger".into();
        let held = poll_once(pin!(permits.acquire(&group))).unwrap();
        let mut left = Box::pin(permits.acquire(&group));
        let mut leaving = Box::pin(permits.acquire(&group));
        assert!(poll_once(left.as_mut()).is_none() && poll_once(leaving.as_mut()).is_none());
        drop(left);
        drop(held);
        drop(leaving);
        assert!(poll_once(pin!(permits.acquire(&group))).is_some());
        let state = permits.state.lock();
        assert_eq!(
            (state.free, state.turns.len(), state.waiting.len()),
            (1, 0, 0)
        );
    }
}
