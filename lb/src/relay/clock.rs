//! Time of a relay: the moments at which it has to check its connection, and the reasons.
// This file only decides: unlike the relay, it has neither a clock nor a socket.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use tokio::time::Instant;

use crate::ends::{EndCondition, EndRule, LINGER, SilenceLimit};
use crate::group_config::RelayConfig;

/// Duration that counts as "never": longer than the life of any process.
pub(super) const NEVER: Duration = Duration::from_hours(24 * 365 * 10);

/// First pause between two checks of the sockets after an end; each pause is twice the last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Pause from an end to the first check of the sockets if the next step is the peers'. Most of them
/// end sooner, and a timer that is not the next to fire costs no system call.
const FIRST_LOOK_AT_PEERS: Duration = Duration::from_millis(50);
/// Longest pause between two checks of the sockets while received bytes are on their way to the
/// other side.
const LONGEST_PAUSE_WHILE_ARRIVING: Duration = Duration::from_millis(250);
/// Longest pause between two checks of the sockets while a side has ended.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Age of a connection at which keepalive is set, unless its period is shorter. Most connections
/// end sooner, and save the system call.
const SETTLED: Duration = Duration::from_secs(10);

/// Time from the dial within which an upstream that ends the connection without a byte has failed.
const EARLY: Duration = Duration::from_secs(1);

/// Reason for a wake-up of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WakeReason {
    /// The lifetime is over.
    Lifetime,
    /// The silence that the rule allows is over.
    Silence,
    /// A check of the sockets, because a side has ended.
    Look,
    /// A check whether the client reads what is sent to it.
    ClientTaking,
    /// A check whether the upstream reads what is sent to it.
    UpstreamTaking,
    /// The upstream has kept its connection for [`EARLY`].
    Kept,
    /// The time to set keepalive.
    Settled,
}

/// Progress of a side in reading what is sent to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryProgress {
    /// Time when it was last seen to take something, or when something was last written to it.
    since: Instant,
    /// Bytes queued for it in the kernel at the last check.
    seen: Option<u32>,
    /// Time of the next check, unless it is known to have taken all.
    next: Option<Instant>,
}

/// Result of a check of what a side has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryState {
    /// It has taken everything.
    All,
    /// It has taken something since the last check.
    Some,
    /// It has taken nothing for this time.
    NothingFor(Duration),
    /// The last write was this time ago; the kernel does not report more.
    WrittenFor(Duration),
}

impl DeliveryProgress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            seen: None,
            next: None,
        }
    }

    /// Evaluates a check. `queued` is the number of bytes in the kernel's queue, if it is known;
    /// `is_waiting` is true if bytes wait before it.
    pub(super) fn look(
        &mut self,
        queued: Option<u32>,
        is_waiting: bool,
        now: Instant,
    ) -> DeliveryState {
        let nothing = now.saturating_duration_since(self.since);
        match queued {
            Some(0) if !is_waiting => DeliveryState::All,
            Some(queued) => {
                let before = self.seen.replace(queued);
                if before.is_some_and(|before| queued < before) {
                    self.since = now;
                    return DeliveryState::Some;
                }
                DeliveryState::NothingFor(nothing)
            }
            None if is_waiting => DeliveryState::NothingFor(nothing),
            None => DeliveryState::WrittenFor(nothing),
        }
    }
}

/// Time limits of a connection: silence, half-close, stall and lifetime, and the next wake-up.
#[derive(Debug)]
pub(super) struct RelayClock {
    idle: Option<Duration>,
    half_closed: Option<Duration>,
    stall: Option<Duration>,
    last_moved: Instant,
    end: Option<Instant>,
    rule: EndRule,
    /// Time from which the rule applies.
    since: Instant,
    look: Option<Instant>,
    pause: Duration,
    pub(super) client: DeliveryProgress,
    pub(super) upstream: DeliveryProgress,
    kept: Option<Instant>,
    settled: Option<Instant>,
}

impl RelayClock {
    /// Makes the clock of a relay that begins `now`. `chance`, from 0 to 1, only shortens the
    /// lifetime: the configured one is never exceeded.
    pub(super) fn new(config: &RelayConfig, rule: EndRule, now: Instant, chance: f64) -> Self {
        let share = 1.0 - config.lifetime_jitter.clamp(0.0, 1.0) * chance;
        let end = config
            .lifetime
            .and_then(|lifetime| now.checked_add(lifetime.mul_f64(share)));
        Self {
            idle: config.idle,
            half_closed: config.half_closed,
            stall: config.stall,
            last_moved: now,
            end,
            rule,
            since: now,
            look: None,
            pause: FIRST_PAUSE,
            client: DeliveryProgress::new(now),
            upstream: DeliveryProgress::new(now),
            kept: None,
            settled: Some(now + SETTLED.min(config.keepalive)),
        }
    }

    /// Sets the time from which on an upstream dialed at `dialed` is known to keep its connection.
    pub(super) fn await_proof(&mut self, dialed: Instant) {
        self.kept = Some(dialed + EARLY);
    }

    /// Returns true if the upstream has yet to show that it keeps its connection.
    pub(super) fn awaits_proof(&self) -> bool {
        self.kept.is_some()
    }

    /// Notes that the upstream has shown that it keeps its connection, or has failed to.
    pub(super) fn proved(&mut self) {
        self.kept = None;
    }

    /// Returns the rule that applies.
    pub(super) fn rule(&self) -> EndRule {
        self.rule
    }

    /// Notes that bytes have moved. The timer is not changed now; it is set again when it fires.
    pub(super) fn moved(&mut self, now: Instant) {
        self.last_moved = now;
    }

    /// Notes that bytes were written to a side. Returns true if the timer must fire earlier than it
    /// is set.
    pub(super) fn wrote(
        taking: &mut DeliveryProgress,
        step: Option<Duration>,
        now: Instant,
    ) -> bool {
        taking.since = now;
        taking.seen = None;
        if taking.next.is_some() || step.is_none() {
            return false;
        }
        taking.next = step.and_then(|step| now.checked_add(step));
        true
    }

    /// Returns the interval of checks whether a side takes what is sent to it: a quarter of the
    /// shortest limit, so that several are made before any limit ends. `None` without a limit.
    pub(super) fn step(&self) -> Option<Duration> {
        let soonest = sooner(sooner(self.stall, self.half_closed), self.idle)?;
        Some((soonest / 4).max(Duration::from_millis(1)))
    }

    /// Applies another rule from now on.
    pub(super) fn enter(&mut self, rule: EndRule, now: Instant) {
        self.rule = rule;
        self.since = now;
        self.last_moved = now;
        (self.client.since, self.upstream.since) = (now, now);
        self.pause = FIRST_PAUSE;
        let first = match rule.over {
            EndCondition::ByPeers => FIRST_LOOK_AT_PEERS,
            EndCondition::WhenTaken(_) | EndCondition::Now => FIRST_PAUSE,
        };
        // A client that has not ended its stream is read, which shows everything.
        self.look = (rule.limit != SilenceLimit::EndSent).then_some(now + first);
    }

    /// Returns the time for which a side may read nothing of what the other side left for it:
    /// `half_closed`.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.half_closed
    }

    /// Returns true if delivery of what was left behind has taken longer than `stall` in all.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let most = self.stall.and_then(|stall| self.since.checked_add(stall));
        most.is_some_and(|most| most <= now)
    }

    /// Returns true if no bytes have moved for [`LINGER`].
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_moved) >= LINGER
    }

    /// Returns the time for which a side may read nothing while bytes wait for it.
    pub(super) fn stall(&self) -> Option<Duration> {
        self.stall
    }

    fn silence(&self) -> Option<Instant> {
        let limit = match self.rule.limit {
            SilenceLimit::Idle => self.idle,
            // What the side reads decides then, not silence.
            _ if matches!(self.rule.over, EndCondition::WhenTaken(_)) => None,
            SilenceLimit::HalfClosed => sooner(self.half_closed, self.idle),
            SilenceLimit::EndSent => sooner(self.half_closed.map(|limit| limit / 3), self.idle),
            SilenceLimit::Linger => Some(LINGER),
        };
        limit.and_then(|limit| self.last_moved.checked_add(limit))
    }

    /// Returns the time when the timer must fire.
    pub(super) fn next(&self) -> Instant {
        let never = self.last_moved + NEVER;
        [
            self.end,
            self.silence(),
            self.look,
            self.client.next,
            self.upstream.next,
            self.kept,
            self.settled,
        ]
        .into_iter()
        .flatten()
        .fold(never, Instant::min)
    }

    /// Returns one reason for a wake-up that is due. The next time of a recurring one is set.
    pub(super) fn due(&mut self, now: Instant) -> Option<WakeReason> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.end) {
            return Some(WakeReason::Lifetime);
        }
        if is_due(self.kept.take_if(|at| *at <= now)) {
            return Some(WakeReason::Kept);
        }
        if is_due(self.settled.take_if(|at| *at <= now)) {
            return Some(WakeReason::Settled);
        }
        if is_due(self.look) {
            let longest = match self.rule.over {
                EndCondition::WhenTaken(_) => LONGEST_PAUSE_WHILE_ARRIVING,
                EndCondition::ByPeers | EndCondition::Now => LONGEST_PAUSE,
            };
            self.pause = (self.pause * 2).min(longest);
            self.look = Some(now + self.pause);
            return Some(WakeReason::Look);
        }
        let step = self.step();
        if put_off(&mut self.client, step, now) {
            return Some(WakeReason::ClientTaking);
        }
        if put_off(&mut self.upstream, step, now) {
            return Some(WakeReason::UpstreamTaking);
        }
        is_due(self.silence()).then_some(WakeReason::Silence)
    }
}

impl DeliveryProgress {
    /// Returns true if bytes were queued for it at the last check.
    pub(super) fn was_behind(&self) -> bool {
        self.seen.is_some_and(|queued| queued > 0)
    }

    /// Notes that it has taken everything: the next check follows the next write.
    pub(super) fn rest(&mut self) {
        self.next = None;
    }
}

/// Returns true if it is time to check whether a side takes what it is sent. If bytes were written
/// meanwhile, the check is only put off.
fn put_off(taking: &mut DeliveryProgress, step: Option<Duration>, now: Instant) -> bool {
    let (Some(at), Some(step)) = (taking.next, step) else {
        return false;
    };
    if at > now {
        return false;
    }
    let after_writing = taking.since.checked_add(step);
    if taking.seen.is_none() && after_writing.is_none_or(|after| after > now) {
        taking.next = after_writing;
        return false;
    }
    taking.next = now.checked_add(step);
    true
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
