//! A worker's nearest timer.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a tick lasts. Connections arm few timers that are nearer.
const TICK: Duration = Duration::from_millis(50);

/// Keeps a timer armed that is nearer than those of connections, as long as connections come.
///
/// tokio wakes its own driver with a system call whenever a timer is armed that is nearer than all others. A
/// connection that comes alone arms four such: for its hello, the dial, the relay, and when a side ends.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    begin: Notify,
    has_come: AtomicBool,
}

impl Ticks {
    /// A connection has come.
    pub(super) fn come(&self) {
        if !self.has_come.swap(true, Relaxed) {
            self.begin.notify_one();
        }
    }

    /// Ticks while connections come, and waits for the next one when a whole tick has seen none. Never ends. Cancel
    /// safe.
    pub(super) async fn tick(&self) {
        loop {
            self.begin.notified().await;
            while self.has_come.swap(false, Relaxed) {
                sleep(TICK).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ticks_as_long_as_connections_come_and_begins_again_with_the_next() {
        let ticks = Ticks::default();
        let mut tick = pin!(ticks.tick());
        let mut go_on = || {
            let polled = tick.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled, Poll::Pending, "it never ends");
        };
        for _ in 0..3 {
            for _ in 0..3 {
                ticks.come();
                go_on();
                assert!(!ticks.has_come.load(Relaxed), "another tick has begun");
                advance(TICK).await;
            }
            // Nobody came in the last one.
            go_on();
        }
    }
}
