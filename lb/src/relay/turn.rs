//! Turns of a relay: it moves bytes, and notes the ends of both sides.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use peer::Downstream;
use tokio::time::{Instant, Sleep};

use super::clock::RelayClock;
use super::course::RelayCourse;
use super::end::{RelayEnd, RelayError};
use super::pump::{PumpEvent, PumpProgress};
use crate::ends::StreamState;
use crate::tcp;

/// Bytes sent to a side from which on the kernel's queues are bounded: most connections never reach
/// it.
const MUCH: u64 = 128 * 1024;

impl<D: Downstream> RelayCourse<'_, D> {
    /// Advances the relay as far as possible.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &mut RelayClock,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Result<RelayEnd, RelayError>> {
        while self.turn(cx, clock) {
            if let Some(ended) = self.judge(clock) {
                return Poll::Ready(ended);
            }
            alarm.as_mut().reset(clock.next());
        }
        if self.note_moves(clock) {
            alarm.as_mut().reset(clock.next());
        }
        while alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            while let Some(due) = clock.due(now) {
                if let Some(ended) = self.ring(cx, due, clock, now) {
                    return Poll::Ready(ended);
                }
            }
            let soonest = now + Duration::from_millis(1);
            alarm.as_mut().reset(clock.next().max(soonest));
        }
        Poll::Pending
    }

    /// Moves the bytes that can be moved. Returns true if a side ended or broke.
    fn turn(&mut self, cx: &mut Context<'_>, clock: &mut RelayClock) -> bool {
        let upward = self.up.poll(
            cx,
            self.sides.downstream,
            self.sides.upstream,
            &self.traffic.received,
        );
        let mut changed = true;
        match upward {
            Poll::Ready(PumpEvent::ReaderEnded(ended)) => self.client_ended(ended),
            Poll::Ready(PumpEvent::WriterLost(error)) => self.upstream_lost(error),
            Poll::Pending => changed = false,
        }
        // The order matters: after a write has got the error of a reset, a read no longer gets it.
        let downward = self.down.poll(
            cx,
            self.sides.upstream,
            self.sides.downstream,
            &self.traffic.sent,
        );
        changed |= downward.is_ready();
        match downward {
            Poll::Ready(PumpEvent::ReaderEnded(ended)) => self.upstream_ended(ended, clock),
            Poll::Ready(PumpEvent::WriterLost(error)) => self.client_lost(error),
            Poll::Pending => {}
        }
        changed
    }

    fn client_ended(&mut self, ended: io::Result<()>) {
        self.client.stream = match ended {
            Ok(()) => StreamState::Ended,
            Err(error) => {
                let is_quiet = error.kind() == io::ErrorKind::UnexpectedEof && !self.client.gone;
                self.broke(RelayError::Downstream(error));
                if is_quiet {
                    StreamState::Unannounced
                } else {
                    self.down.discard();
                    StreamState::Broken
                }
            }
        };
    }

    fn client_lost(&mut self, error: io::Error) {
        self.client.gone = true;
        self.up.lose_reader();
        // A client that ended its stream in order need not wait for more.
        if self.client.stream != StreamState::Ended {
            self.broke(RelayError::Downstream(error));
        }
    }

    fn upstream_ended(&mut self, ended: io::Result<()>, clock: &mut RelayClock) {
        self.observe_end(&ended, clock);
        self.upstream.stream = match ended {
            Ok(()) => StreamState::Ended,
            Err(error) => {
                self.broke(RelayError::Upstream(error));
                self.up.discard();
                StreamState::Broken
            }
        };
    }

    fn upstream_lost(&mut self, error: io::Error) {
        self.observe_loss(&error);
        self.upstream.gone = true;
        self.down.lose_reader();
        self.broke(RelayError::Upstream(error));
    }

    /// Notes the bytes that have moved. Returns true if the timer must fire earlier than it is set.
    fn note_moves(&mut self, clock: &mut RelayClock) -> bool {
        let (upward, downward) = (self.up.take_moved(), self.down.take_moved());
        if upward.max(downward) == PumpProgress::Nothing {
            return false;
        }
        let now = Instant::now();
        clock.moved(now);
        let step = clock.step();
        let mut is_earlier = false;
        if upward == PumpProgress::Written {
            is_earlier |= RelayClock::wrote(&mut clock.upstream, step, now);
        }
        if downward == PumpProgress::Written {
            is_earlier |= RelayClock::wrote(&mut clock.client, step, now);
            if clock.awaits_proof() {
                self.upstream_serves(clock);
            }
        }
        self.bound();
        is_earlier
    }

    /// Bounds the kernel's queues of a connection that moves much, or whose sides differ in speed.
    fn bound(&mut self) {
        if !self.bounded.client && self.traffic.sent() > MUCH {
            self.bounded.client = true;
            if let Some(client) = self.sides.downstream.socket() {
                tcp::bound_unsent(client);
            }
        }
        if !self.bounded.upstream && self.traffic.received() > MUCH {
            self.bounded.upstream = true;
            tcp::bound_unsent(self.sides.upstream.as_fd());
        }
        if !self.bounded.unread && self.down.is_waiting() {
            self.bounded.unread = true;
            tcp::bound_unread(self.sides.upstream.as_fd());
        }
    }
}
