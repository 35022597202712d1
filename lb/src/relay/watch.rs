//! Checks that a relay makes when its alarm rings or a side ends.

use std::io;
use std::os::fd::AsFd;
use std::task::Context;
use std::time::Duration;

use peer::{Downstream, PeerPresence, presence};
use tokio::time::Instant;

use super::clock::{DeliveryProgress, DeliveryState, RelayClock, WakeReason};
use super::course::RelayCourse;
use super::end::{RelayEnd, RelayError};
use crate::cause::FailureCause;
use crate::ends::{self, EndCondition, MOST_DROPPED, PendingDelivery, RelayVerdict, StreamState};
use crate::tcp;

/// Time after which written bytes count as taken if the kernel does not report its queue.
const UNKNOWN: Duration = Duration::from_secs(1);

impl<D: Downstream> RelayCourse<'_, D> {
    /// Handles one reason for a wake-up. Returns the result if the connection is over.
    pub(super) fn ring(
        &mut self,
        cx: &mut Context<'_>,
        due: WakeReason,
        clock: &mut RelayClock,
        now: Instant,
    ) -> Option<Result<RelayEnd, RelayError>> {
        match due {
            WakeReason::Lifetime => Some(Err(RelayError::Lifetime)),
            WakeReason::Silence => Some(self.conclude(clock.rule().verdict)),
            WakeReason::Look => self.look(cx, clock),
            WakeReason::ClientTaking => self.ask_client(clock, now),
            WakeReason::UpstreamTaking => self.ask_upstream(clock, now),
            WakeReason::Kept => {
                self.upstream_serves(clock);
                None
            }
            WakeReason::Settled => {
                tcp::keep_alive(self.sides.upstream.as_fd(), self.keepalive);
                if let Some(client) = self.sides.downstream.socket() {
                    tcp::keep_alive(client, self.keepalive);
                }
                None
            }
        }
    }

    /// Checks whether a client that has ended its stream still listens, and what was taken.
    fn look(
        &mut self,
        cx: &mut Context<'_>,
        clock: &mut RelayClock,
    ) -> Option<Result<RelayEnd, RelayError>> {
        let has_ended = matches!(
            self.client.stream,
            StreamState::Ended | StreamState::Unannounced
        );
        if has_ended && !self.client.gone {
            match self.client_presence() {
                PeerPresence::Gone => {
                    self.client.gone = true;
                    self.down.discard();
                }
                PeerPresence::Ended if !self.nudged && !self.down.is_waiting() => {
                    self.nudged = true;
                    self.sides.downstream.nudge(cx);
                }
                PeerPresence::Ended | PeerPresence::Sending => {}
            }
        }
        if self.client.gone && self.down.dropped() > MOST_DROPPED {
            self.broke(RelayError::Downstream(io::ErrorKind::BrokenPipe.into()));
            if self.client.stream == StreamState::Ended {
                return Some(self.conclude(RelayVerdict::Broke));
            }
        }
        self.judge(clock)
    }

    fn client_presence(&self) -> PeerPresence {
        let socket = self.sides.downstream.socket();
        socket.map_or(PeerPresence::Sending, presence)
    }

    fn client_taken(&self, taking: &mut DeliveryProgress, now: Instant) -> DeliveryState {
        let queued = self.sides.downstream.socket().and_then(tcp::queued);
        taking.look(queued, self.down.is_waiting(), now)
    }

    fn upstream_taken(&self, taking: &mut DeliveryProgress, now: Instant) -> DeliveryState {
        let queued = tcp::queued(self.sides.upstream.as_fd());
        taking.look(queued, self.up.is_waiting(), now)
    }

    /// Returns true if everything has arrived that has to, or will not arrive any more.
    fn is_taken(&self, rest: PendingDelivery, clock: &mut RelayClock, now: Instant) -> bool {
        if clock.is_overdue(now) {
            return true;
        }
        let mut taken = [DeliveryState::All; 2];
        if rest.client {
            taken[0] = self.client_taken(&mut clock.client, now);
        }
        if rest.upstream {
            taken[1] = self.upstream_taken(&mut clock.upstream, now);
        }
        if taken.contains(&DeliveryState::Some) {
            clock.moved(now);
        }
        let patience = clock.patience();
        let has_given_up = |taken: &DeliveryState| match *taken {
            DeliveryState::NothingFor(time) => patience.is_some_and(|patience| time >= patience),
            DeliveryState::All | DeliveryState::Some | DeliveryState::WrittenFor(_) => false,
        };
        let has_arrived = |taken: &DeliveryState| match *taken {
            DeliveryState::All => true,
            DeliveryState::WrittenFor(time) => time >= UNKNOWN,
            DeliveryState::Some | DeliveryState::NothingFor(_) => false,
        };
        taken.iter().any(has_given_up)
            || taken.iter().all(has_arrived) && (!rest.answers || clock.is_quiet(now))
    }

    fn ask_client(
        &mut self,
        clock: &mut RelayClock,
        now: Instant,
    ) -> Option<Result<RelayEnd, RelayError>> {
        let was_behind = clock.client.was_behind();
        let taken = self.client_taken(&mut clock.client, now);
        let DeliveryState::NothingFor(time) = taken else {
            // The connection is not silent while the kernel's queue drains.
            if taken == DeliveryState::Some || was_behind {
                clock.moved(now);
            }
            settle(&mut clock.client, taken);
            return None;
        };
        is_up(clock.stall(), time).then_some(Err(RelayError::ClientStalled))
    }

    fn ask_upstream(
        &mut self,
        clock: &mut RelayClock,
        now: Instant,
    ) -> Option<Result<RelayEnd, RelayError>> {
        let was_behind = clock.upstream.was_behind();
        let taken = self.upstream_taken(&mut clock.upstream, now);
        let DeliveryState::NothingFor(time) = taken else {
            // The connection is not silent while the kernel's queue drains.
            if taken == DeliveryState::Some || was_behind {
                clock.moved(now);
            }
            settle(&mut clock.upstream, taken);
            return None;
        };
        if is_up(clock.stall(), time) {
            if let Some(lease) = self.lease {
                lease.broke(FailureCause::Stalled);
            }
            return Some(Err(RelayError::UpstreamStalled));
        }
        // The client is gone, and no longer needs what the upstream does not take.
        if is_up(clock.patience(), time) && self.client_presence() == PeerPresence::Gone {
            let gone = io::ErrorKind::ConnectionReset.into();
            return Some(Err(RelayError::Downstream(gone)));
        }
        None
    }

    /// Applies the rule for the ends so far. Returns the result if the connection is over.
    pub(super) fn judge(&mut self, clock: &mut RelayClock) -> Option<Result<RelayEnd, RelayError>> {
        let rule = ends::rule(self.client, self.upstream);
        let now = Instant::now();
        if rule != clock.rule() {
            clock.enter(rule, now);
        }
        match rule.over {
            EndCondition::Now => Some(self.conclude(rule.verdict)),
            EndCondition::WhenTaken(rest) if self.is_taken(rest, clock, now) => {
                Some(self.conclude(rule.verdict))
            }
            EndCondition::WhenTaken(_) | EndCondition::ByPeers => None,
        }
    }
}

fn settle(taking: &mut DeliveryProgress, taken: DeliveryState) {
    if matches!(taken, DeliveryState::All | DeliveryState::WrittenFor(_)) {
        taking.rest();
    }
}

fn is_up(limit: Option<Duration>, time: Duration) -> bool {
    limit.is_some_and(|limit| time >= limit)
}
