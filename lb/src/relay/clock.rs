//! When a relay has to look at its connection again, and why.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    ends::{EndCondition, EndRule, LINGER, SilenceLimit},
    group_config::RelayConfig,
};

/// What stands for "never": long past the life of any process.
pub(super) const NEVER: Duration = Duration::from_hours(24 * 365 * 10);

/// The first pause between two looks at the sockets after an end; each pause is twice the last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How long after an end the sockets are looked at for the first time if what happens next is up to the peers, who
/// mostly end before: a timer that is not nearer than others costs no system call.
const FIRST_LOOK_AT_PEERS: Duration = Duration::from_millis(50);
/// The longest pause between two looks while what was taken in arrives.
const LONGEST_PAUSE_WHILE_ARRIVING: Duration = Duration::from_millis(250);
/// The longest pause between two looks while a side has ended.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a connection lives before the kernel is told to ask after silent peers: most are shorter.
const SETTLED: Duration = Duration::from_secs(10);

/// How long an upstream has from the dial to say something before it ends.
const EARLY: Duration = Duration::from_secs(1);

/// What it is time for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WakeReason {
    /// The end of the lifetime.
    Lifetime,
    /// The end of the silence that the rule allows.
    Silence,
    /// A look at the sockets, since a side has ended.
    Look,
    /// A look at whether the client takes what is sent to it.
    ClientTaking,
    /// A look at whether the upstream takes what is sent to it.
    UpstreamTaking,
    /// The upstream has kept its connection long enough.
    Kept,
    /// Keepalive is set.
    Settled,
}

/// Whether a side takes what is sent to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryProgress {
    /// When it was last seen to take something, or to be given something.
    since: Instant,
    /// How much was queued for it when that was last looked at.
    seen: Option<u32>,
    /// When to look, unless it is known to have taken all.
    next: Option<Instant>,
}

/// How much of what was sent to a side it has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DeliveryState {
    /// All of it.
    All,
    /// Something since the last look.
    Some,
    /// Nothing for so long.
    NothingFor(Duration),
    /// It has been written for so long; more cannot be known.
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

    /// Looks: so much is queued in the kernel, if that is known, and perhaps bytes wait before it.
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

/// When a connection has been silent, half-closed, stalled, or alive for too long.
#[derive(Debug)]
pub(super) struct RelayClock {
    idle: Option<Duration>,
    half_closed: Option<Duration>,
    stall: Option<Duration>,
    last_moved: Instant,
    end: Option<Instant>,
    rule: EndRule,
    /// Since when the rule holds.
    since: Instant,
    look: Option<Instant>,
    pause: Duration,
    pub(super) client: DeliveryProgress,
    pub(super) upstream: DeliveryProgress,
    kept: Option<Instant>,
    settled: Option<Instant>,
}

impl RelayClock {
    /// Chance, from 0 to 1, only shortens the lifetime: the configured one is never exceeded.
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

    /// From when on an upstream that was dialed then is known to keep its connection.
    pub(super) fn await_proof(&mut self, dialed: Instant) {
        self.kept = Some(dialed + EARLY);
    }

    /// Whether the upstream has yet to show that it keeps its connection.
    pub(super) fn awaits_proof(&self) -> bool {
        self.kept.is_some()
    }

    /// The upstream has shown it, or has failed to.
    pub(super) fn proved(&mut self) {
        self.kept = None;
    }

    /// The rule that holds.
    pub(super) fn rule(&self) -> EndRule {
        self.rule
    }

    /// Only takes note; the alarm rings at the old time and is set anew then.
    pub(super) fn moved(&mut self, now: Instant) {
        self.last_moved = now;
    }

    /// Bytes were written to a side; whether the alarm has to ring earlier than before.
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

    /// How often is looked whether a side takes what is sent to it: more often than any limit ends.
    pub(super) fn step(&self) -> Option<Duration> {
        let soonest = sooner(sooner(self.stall, self.half_closed), self.idle)?;
        Some((soonest / 4).max(Duration::from_millis(1)))
    }

    /// Another rule holds from now on.
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
        // A client that has not ended its stream is read, which says all.
        self.look = (rule.limit != SilenceLimit::EndSent).then_some(now + first);
    }

    /// How long one of the sides may take nothing of what was left behind for it.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.half_closed
    }

    /// How long what was left behind may take to arrive in all.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let most = self.stall.and_then(|stall| self.since.checked_add(stall));
        most.is_some_and(|most| most <= now)
    }

    /// Whether nothing has taken anything for [`LINGER`].
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_moved) >= LINGER
    }

    /// How long nobody may take a byte before it is said that the side takes nothing.
    pub(super) fn stall(&self) -> Option<Duration> {
        self.stall
    }

    fn silence(&self) -> Option<Instant> {
        let limit = match self.rule.limit {
            SilenceLimit::Idle => self.idle,
            // Then silence is judged by what arrives.
            _ if matches!(self.rule.over, EndCondition::WhenTaken(_)) => None,
            SilenceLimit::HalfClosed => sooner(self.half_closed, self.idle),
            SilenceLimit::EndSent => sooner(self.half_closed.map(|limit| limit / 3), self.idle),
            SilenceLimit::Linger => Some(LINGER),
        };
        limit.and_then(|limit| self.last_moved.checked_add(limit))
    }

    /// When the alarm has to ring.
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

    /// What it is time for, one thing at a time. What recurs is put off.
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
    /// Whether it had not taken all when that was last looked at.
    pub(super) fn was_behind(&self) -> bool {
        self.seen.is_some_and(|queued| queued > 0)
    }

    /// It has taken all: there is nothing to look at until more is written.
    pub(super) fn rest(&mut self) {
        self.next = None;
    }
}

/// Whether it is time to look whether a side takes what it is sent. If bytes were written meanwhile,
/// the look is only put off.
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
