//! What a relay looks at when its alarm rings, and what it observes about its upstream.

use std::{io, os::fd::AsFd, task::Context, time::Duration};

use tokio::time::Instant;

use super::{
    Downstream, Finished, RelayError,
    clock::{Clock, Due, Taken, Taking},
    course::Course,
};
use crate::{
    cause::Cause,
    dial::is_ours,
    ends::{MOST_DROPPED, Rest, Stream, Verdict},
    tcp::{self, Presence},
};

/// How long is waited for what a peer takes if the kernel does not say how much that is.
const UNKNOWN: Duration = Duration::from_secs(1);

impl<D: Downstream> Course<'_, D> {
    /// It is time for something.
    pub(super) fn ring(
        &mut self,
        cx: &mut Context<'_>,
        due: Due,
        clock: &mut Clock,
        now: Instant,
    ) -> Option<Result<Finished, RelayError>> {
        match due {
            Due::Lifetime => Some(Err(RelayError::Lifetime)),
            Due::Silence => Some(self.conclude(clock.rule().verdict)),
            Due::Look => self.look(cx, clock),
            Due::ClientTaking => self.ask_client(clock, now),
            Due::UpstreamTaking => self.ask_upstream(clock, now),
            Due::Kept => {
                self.upstream_serves(clock);
                None
            }
            Due::Settled => {
                tcp::keep_alive(self.sides.upstream.as_fd(), self.keepalive);
                if let Some(client) = self.sides.downstream.socket() {
                    tcp::keep_alive(client, self.keepalive);
                }
                None
            }
        }
    }

    /// Looks whether a client that has ended its stream still listens, and what was taken.
    fn look(
        &mut self,
        cx: &mut Context<'_>,
        clock: &mut Clock,
    ) -> Option<Result<Finished, RelayError>> {
        let has_ended = matches!(self.client.stream, Stream::Ended | Stream::Unannounced);
        if has_ended && !self.client.gone {
            match self.client_presence() {
                Presence::Gone => {
                    self.client.gone = true;
                    self.down.discard();
                }
                Presence::Ended if !self.nudged && !self.down.is_waiting() => {
                    self.nudged = true;
                    self.sides.downstream.nudge(cx);
                }
                Presence::Ended | Presence::Sending => {}
            }
        }
        if self.client.gone && self.down.dropped() > MOST_DROPPED {
            self.broke(RelayError::Downstream(io::ErrorKind::BrokenPipe.into()));
            if self.client.stream == Stream::Ended {
                return Some(self.conclude(Verdict::Broke));
            }
        }
        self.judge(clock)
    }

    fn client_presence(&self) -> Presence {
        let socket = self.sides.downstream.socket();
        socket.map_or(Presence::Sending, tcp::presence)
    }

    fn client_taken(&self, taking: &mut Taking, now: Instant) -> Taken {
        let queued = self.sides.downstream.socket().and_then(tcp::queued);
        taking.look(queued, self.down.is_waiting(), now)
    }

    fn upstream_taken(&self, taking: &mut Taking, now: Instant) -> Taken {
        let queued = tcp::queued(self.sides.upstream.as_fd());
        taking.look(queued, self.up.is_waiting(), now)
    }

    /// Whether all has arrived that has to, or nothing of it will.
    pub(super) fn is_taken(&self, rest: Rest, clock: &mut Clock, now: Instant) -> bool {
        if clock.is_overdue(now) {
            return true;
        }
        let mut taken = [Taken::All; 2];
        if rest.client {
            taken[0] = self.client_taken(&mut clock.client, now);
        }
        if rest.upstream {
            taken[1] = self.upstream_taken(&mut clock.upstream, now);
        }
        if taken.contains(&Taken::Some) {
            clock.moved(now);
        }
        let patience = clock.patience();
        let has_given_up = |taken: &Taken| match *taken {
            Taken::NothingFor(time) => patience.is_some_and(|patience| time >= patience),
            Taken::All | Taken::Some | Taken::WrittenFor(_) => false,
        };
        let has_arrived = |taken: &Taken| match *taken {
            Taken::All => true,
            Taken::WrittenFor(time) => time >= UNKNOWN,
            Taken::Some | Taken::NothingFor(_) => false,
        };
        taken.iter().any(has_given_up)
            || taken.iter().all(has_arrived) && (!rest.answers || clock.is_quiet(now))
    }

    fn ask_client(
        &mut self,
        clock: &mut Clock,
        now: Instant,
    ) -> Option<Result<Finished, RelayError>> {
        let was_behind = clock.client.was_behind();
        let taken = self.client_taken(&mut clock.client, now);
        let Taken::NothingFor(time) = taken else {
            // The connection is not silent while the kernel's queue drains.
            if taken == Taken::Some || was_behind {
                clock.moved(now);
            }
            settle(&mut clock.client, taken);
            return None;
        };
        is_up(clock.stall(), time).then_some(Err(RelayError::ClientStalled))
    }

    fn ask_upstream(
        &mut self,
        clock: &mut Clock,
        now: Instant,
    ) -> Option<Result<Finished, RelayError>> {
        let was_behind = clock.upstream.was_behind();
        let taken = self.upstream_taken(&mut clock.upstream, now);
        let Taken::NothingFor(time) = taken else {
            // The connection is not silent while the kernel's queue drains.
            if taken == Taken::Some || was_behind {
                clock.moved(now);
            }
            settle(&mut clock.upstream, taken);
            return None;
        };
        if is_up(clock.stall(), time) {
            if let Some(lease) = self.lease {
                lease.broke(Cause::Stalled);
            }
            return Some(Err(RelayError::UpstreamStalled));
        }
        // Nobody waits any more for what the upstream does not take.
        if is_up(clock.patience(), time) && self.client_presence() == Presence::Gone {
            let gone = io::ErrorKind::ConnectionReset.into();
            return Some(Err(RelayError::Downstream(gone)));
        }
        None
    }

    pub(super) fn upstream_serves(&self, clock: &mut Clock) {
        clock.proved();
        if let Some(lease) = self.lease {
            lease.served();
        }
    }

    /// What it says about the upstream that its stream ended.
    pub(super) fn observe_end(&mut self, ended: &io::Result<()>, clock: &mut Clock) {
        let Some(lease) = self.lease else {
            return;
        };
        if ended.as_ref().is_err_and(is_ours) || self.client.stream != Stream::Open {
            return;
        }
        if clock.awaits_proof() && self.traffic.sent() == 0 {
            clock.proved();
            lease.fell_short(ended.as_ref().err().map_or(Cause::Closed, Cause::of));
            // That is all it says, also if it ends in order now.
            self.lease = None;
        } else if let (Err(error), false) = (ended, self.upstream.gone) {
            lease.broke(Cause::of(error));
        }
    }

    /// What it says about the upstream that it takes no more.
    pub(super) fn observe_loss(&self, error: &io::Error) {
        let is_its_own = self.upstream.stream == Stream::Open
            && self.client.stream == Stream::Open
            && !is_ours(error);
        if let (true, Some(lease)) = (is_its_own, self.lease) {
            lease.broke(Cause::of(error));
        }
    }
}

fn settle(taking: &mut Taking, taken: Taken) {
    if matches!(taken, Taken::All | Taken::WrittenFor(_)) {
        taking.rest();
    }
}

fn is_up(limit: Option<Duration>, time: Duration) -> bool {
    limit.is_some_and(|limit| time >= limit)
}
