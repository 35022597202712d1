//! State of a group under one lock: health, tiers and counts change together or not at all.
#![expect(clippy::disallowed_methods, reason = "it knows what is due")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::status::{UpstreamStatus, VacatedUpstream};
use crate::balancer::{Balancer, STEPS, Tier};
use crate::cause::FailureCause;
use crate::group_config::{
    GroupConfig, HealthConfig, OnDown, UpstreamConfig, UpstreamState, WhenAllDown,
};
use crate::health::{HealthState, UpstreamHealth};
use crate::limit::Limit;
use crate::no_lease::NoLease;
use crate::probe_kind::ProbeKind;

mod upstream_entry;

use upstream_entry::UpstreamEntry;

/// Longest wait for the first verdict; after it the group is used in the state that it has.
pub(super) const FIRST_VERDICT: Duration = Duration::from_secs(5);

/// State in logs of an upstream that its group no longer has.
const REMOVED: &str = "removed";

/// Time that a failed connection counts as load of its upstream.
const FAILED_COUNTS: Duration = Duration::from_secs(10);

/// Most failed connections of a group that are counted at a time.
const MOST_FAILED: usize = 1024;

/// Most newcomers that one lease takes a step further.
const EASED_AT_ONCE: usize = 16;

/// The state of a group.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    pub(super) balancer: Balancer,
    upstreams: HashMap<SocketAddr, UpstreamEntry>,
    /// Upstreams without probes that failed, with the times when they are tried again.
    cooling_down: BTreeSet<(Instant, SocketAddr)>,
    /// Failed connections that count as load, with the times until which they count.
    failed: VecDeque<(Instant, SocketAddr)>,
    /// Newcomers, with the times of their next steps.
    easing: BTreeSet<(Instant, SocketAddr)>,
    /// Time in which a newcomer reaches its share.
    slow_start: Duration,
    /// Time until which the first verdict is awaited, if it ever was.
    verdict_until: Option<Instant>,
    /// True if probes were started.
    is_probed: bool,
    /// True if the group was removed.
    pub(super) retired: bool,
    health: HealthConfig,
    limit: Limit,
    when_all_down: WhenAllDown,
}

impl GroupState {
    /// Chooses an upstream and counts the connection. The token is there if the connection is to
    /// end when the upstream goes down, and is cancelled then.
    pub(super) fn choose(
        &mut self,
        tried: &[SocketAddr],
    ) -> Result<(SocketAddr, Option<CancellationToken>), NoLease> {
        self.end_cool_downs();
        self.forget_failed();
        self.ease();
        if !self.limit.allows(self.balancer.open()) {
            return Err(NoLease::GroupFull { limit: self.limit });
        }
        let address = self.balancer.choose(tried, self.when_all_down)?;
        let down = match (self.health.on_down, self.upstreams.get_mut(&address)) {
            (OnDown::Cut, Some(entry)) => Some(entry.down.get_or_insert_default().clone()),
            (OnDown::Cut | OnDown::Keep, _) => None,
        };
        Ok((address, down))
    }

    /// Takes over the settings that apply to all upstreams alike.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "each upstream is placed by itself, in whatever order"
    )]
    pub(super) fn configure(&mut self, config: &GroupConfig) {
        let was_off = self.health.check == ProbeKind::Off;
        self.health = config.health.clone();
        self.limit = config.max_connections;
        self.when_all_down = config.when_all_down;
        self.slow_start = config.slow_start;
        if was_off || self.health.check != ProbeKind::Off {
            return;
        }
        // Without probes there is nothing against any of them.
        for (&address, entry) in &mut self.upstreams {
            if entry.health.health() != UpstreamHealth::Up {
                entry.health = HealthState::UP;
                let (weight, tier) = (entry.config.weight, entry.tier());
                self.balancer.put(address, weight, tier);
            }
        }
    }

    /// Adds an upstream or alters it. Returns it if it gets no more connections by that and has
    /// none.
    pub(super) fn put(&mut self, config: UpstreamConfig) -> Option<VacatedUpstream> {
        let UpstreamConfig {
            address,
            weight,
            state,
            ..
        } = config;
        let assumed = match self.health.check {
            ProbeKind::Off => HealthState::UP,
            ProbeKind::Tcp | ProbeKind::SendExpect { .. } | ProbeKind::Custom(_) => {
                HealthState::UNKNOWN
            }
        };
        let entry = self.upstreams.entry(address).or_insert(UpstreamEntry {
            config,
            health: assumed,
            cause: None,
            down: None,
            is_suspected: false,
        });
        let stops = entry.config.state == UpstreamState::Ready && state != UpstreamState::Ready;
        entry.config = config;
        if state == UpstreamState::Maint {
            entry.health = assumed;
        }
        let tier = entry.tier();
        self.place(address, weight, tier);
        let is_vacated = stops && self.balancer.active(address) == 0;
        is_vacated.then_some(VacatedUpstream {
            upstream: address,
            state: state.as_str(),
        })
    }

    /// Removes an upstream, whose connections go on. Returns it if it has none.
    pub(super) fn remove(&mut self, upstream: SocketAddr) -> Option<VacatedUpstream> {
        self.upstreams.remove(&upstream)?;
        let is_vacated = self.balancer.active(upstream) == 0;
        self.balancer.remove(upstream);
        let state = REMOVED;
        is_vacated.then_some(VacatedUpstream { upstream, state })
    }

    /// Puts an upstream into its tier. One that begins to serve beside others starts slowly.
    fn place(&mut self, address: SocketAddr, weight: NonZeroU32, tier: Tier) {
        let enters = self.balancer.put(address, weight, tier);
        if enters && !self.slow_start.is_zero() && self.balancer.ease_in(address) {
            let next = Instant::now() + self.slow_start / STEPS;
            self.easing.insert((next, address));
        }
    }

    /// Takes the newcomers that are due one step further, [`EASED_AT_ONCE`] at most.
    fn ease(&mut self) {
        if self.easing.is_empty() {
            return;
        }
        let now = Instant::now();
        for _ in 0..EASED_AT_ONCE {
            let Some(&due) = self.easing.first().filter(|due| due.0 <= now) else {
                return;
            };
            self.easing.remove(&due);
            let (at, address) = due;
            if self.balancer.ease(address) {
                self.easing.insert((at + self.slow_start / STEPS, address));
            }
        }
    }

    /// Counts the end of a connection. Returns its upstream if that was the last one and no more
    /// are to follow.
    pub(super) fn give_back(&mut self, upstream: SocketAddr) -> Option<VacatedUpstream> {
        if self.balancer.give_back(upstream) > 0 {
            return None;
        }
        let state = match self.upstreams.get(&upstream).map(|it| it.config.state) {
            Some(_) | None if self.retired => REMOVED,
            Some(UpstreamState::Ready) => return None,
            Some(state @ (UpstreamState::Drain | UpstreamState::Maint)) => state.as_str(),
            None => REMOVED,
        };
        Some(VacatedUpstream { upstream, state })
    }

    /// Notes that the group was removed, and returns its upstreams that have no connections.
    pub(super) fn retire(&mut self) -> Vec<VacatedUpstream> {
        self.retired = true;
        let mut vacated: Vec<_> = self.upstreams.keys().copied().collect();
        vacated.retain(|&upstream| self.balancer.active(upstream) == 0);
        vacated.sort_unstable();
        let state = REMOVED;
        let vacated = vacated.into_iter();
        vacated
            .map(|upstream| VacatedUpstream { upstream, state })
            .collect()
    }

    /// Stores the cause of an upstream's failure; `None` clears it.
    pub(super) fn explain(&mut self, upstream: SocketAddr, cause: Option<FailureCause>) {
        if let Some(entry) = self.upstreams.get_mut(&upstream) {
            entry.cause = cause;
        }
    }

    /// Returns the cause of the upstream's last failure.
    pub(super) fn cause(&self, upstream: SocketAddr) -> Option<&FailureCause> {
        self.upstreams.get(&upstream)?.cause.as_ref()
    }

    /// Returns the health of the upstream.
    pub(super) fn health(&self, upstream: SocketAddr) -> Option<UpstreamHealth> {
        Some(self.upstreams.get(&upstream)?.health.health())
    }

    /// Notes that upstreams are probed from now on, so that a verdict can be awaited.
    pub(super) fn begin_probing(&mut self) {
        if !self.is_probed {
            self.is_probed = true;
            self.await_verdict();
        }
    }

    /// Begins to await the first verdict, if there is none and probes can give one.
    pub(super) fn await_verdict(&mut self) {
        if self.is_probed && self.undecided_until().is_none() && self.is_undecided() {
            self.verdict_until = Some(Instant::now() + FIRST_VERDICT);
        }
    }

    /// Returns the time until which the first verdict is awaited, which may be past, or `None` if
    /// there is a verdict.
    pub(super) fn undecided_until(&self) -> Option<Instant> {
        self.verdict_until.filter(|_| self.is_undecided())
    }

    pub(super) fn is_undecided(&self) -> bool {
        !self.balancer.serves() && self.upstreams.values().any(UpstreamEntry::is_undecided)
    }

    /// Changes the health of an upstream by `next`, and returns the health before and after if they
    /// differ. If the upstream goes down, its connections end if the group is configured so.
    pub(super) fn observe(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(HealthState, &HealthConfig) -> HealthState,
    ) -> Option<(UpstreamHealth, UpstreamHealth)> {
        let moved = self.shift(address, next);
        if matches!(moved, Some((_, UpstreamHealth::Down))) {
            self.cut(address);
        }
        moved
    }

    /// Notes that a probe or a dial failed: a suspicion against the upstream is confirmed by that.
    pub(super) fn confirm(&mut self, address: SocketAddr) {
        if self
            .upstreams
            .get(&address)
            .is_some_and(|it| it.is_suspected)
        {
            self.cut(address);
        }
    }

    /// Ends the upstream's connections, if the group is configured so.
    fn cut(&mut self, address: SocketAddr) {
        if let Some(entry) = self.upstreams.get_mut(&address) {
            entry.is_suspected = false;
            if let Some(down) = entry.down.take() {
                down.cancel();
            }
        }
    }

    fn shift(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(HealthState, &HealthConfig) -> HealthState,
    ) -> Option<(UpstreamHealth, UpstreamHealth)> {
        let entry = self.upstreams.get_mut(&address)?;
        if entry.config.state == UpstreamState::Maint {
            return None;
        }
        let before = entry.health.health();
        entry.health = next(entry.health, &self.health);
        let after = entry.health.health();
        if before == after {
            return None;
        }
        entry.is_suspected = false;
        let (weight, tier) = (entry.config.weight, entry.tier());
        self.place(address, weight, tier);
        if after == UpstreamHealth::Down && self.health.check == ProbeKind::Off {
            self.cooling_down
                .insert((Instant::now() + self.health.interval, address));
        }
        Some((before, after))
    }

    /// Changes the health of an upstream by an observation that a client may have caused. It takes
    /// down no upstream that is the last one to serve, and ends no other client's connection.
    pub(super) fn suspect(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(HealthState, &HealthConfig) -> HealthState,
    ) -> Option<(UpstreamHealth, UpstreamHealth)> {
        let is_last = self.balancer.serving() <= 1;
        let moved = self.shift(address, |condition, health| {
            let next = next(condition, health);
            if is_last && next.health() == UpstreamHealth::Down {
                condition
            } else {
                next
            }
        });
        if let (Some((_, UpstreamHealth::Down)), Some(it)) =
            (moved, self.upstreams.get_mut(&address))
        {
            it.is_suspected = true;
        }
        moved
    }

    /// Counts a failed connection of the upstream as load for [`FAILED_COUNTS`].
    pub(super) fn count_failed(&mut self, address: SocketAddr) {
        self.forget_failed();
        if self.failed.len() < MOST_FAILED {
            self.failed
                .push_back((Instant::now() + FAILED_COUNTS, address));
            self.balancer.remember_failed(address);
        }
    }

    fn forget_failed(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((_, address)) = self.failed.pop_front_if(|(until, _)| *until <= now) {
            self.balancer.forget_failed(address);
        }
    }

    /// Lets upstreams without probes serve again whose time off is over; the next failed dial takes
    /// them down again.
    pub(super) fn end_cool_downs(&mut self) {
        if self.cooling_down.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(_, address)) = self.cooling_down.first().filter(|rest| rest.0 <= now) {
            self.cooling_down.pop_first();
            let Some(entry) = self.upstreams.get_mut(&address) else {
                continue;
            };
            if entry.health.health() == UpstreamHealth::Down && self.health.check == ProbeKind::Off
            {
                entry.health = HealthState::half_open(self.health.thresholds());
                let (weight, tier) = (entry.config.weight, entry.tier());
                self.place(address, weight, tier);
            }
        }
    }

    pub(super) fn status(&self, address: SocketAddr) -> Option<UpstreamStatus> {
        let UpstreamEntry {
            config,
            health: condition,
            cause,
            down: _,
            is_suspected: _,
        } = self.upstreams.get(&address)?;
        Some(UpstreamStatus {
            address,
            health: condition.health(),
            cause: cause.clone(),
            state: config.state,
            open: self.balancer.active(address),
            weight: config.weight,
            backup: config.backup,
        })
    }
}
