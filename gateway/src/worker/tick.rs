//! The timer of a worker that is nearer than those of its connections.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Duration of a tick. Connections start few timers that are nearer.
const TICK: Duration = Duration::from_millis(50);

/// Keeps a timer armed that is nearer than those of connections, as long as connections arrive.
///
/// tokio wakes its own driver with a system call whenever a timer is armed that is nearer than all
/// others. A single connection arms four such: for its hello, for the dial, for the relay, and when
/// a side ends.
#[derive(Debug, Default)]
pub(super) struct WorkerTicks(Notify);

impl WorkerTicks {
    /// Notes that a connection has arrived: another tick follows.
    pub(super) fn note_connection(&self) {
        self.0.notify_one();
    }

    /// Ticks while connections arrive. After a whole tick without a new one, waits for the next
    /// connection. Never ends. Cancel safe.
    pub(super) async fn tick(&self) {
        loop {
            self.0.notified().await;
            sleep(TICK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ticks_as_long_as_connections_come_and_begins_again_with_the_next() {
        let ticks = WorkerTicks::default();
        let mut tick = pin!(ticks.tick());
        let mut go_on = || {
            let polled = tick.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "it never ends");
        };
        let nobody_waits_to_be_told = || {
            let told = pin!(ticks.0.notified());
            told.poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        };
        for _ in 0..3 {
            ticks.note_connection();
            go_on();
            // In the middle of a tick it is only noted that another follows.
            advance(TICK / 2).await;
            ticks.note_connection();
            go_on();
            assert!(nobody_waits_to_be_told());
            advance(TICK).await;
            go_on();
            assert!(!nobody_waits_to_be_told());
        }
    }
}
