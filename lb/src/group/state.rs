//! What one lock guards: health, tiers and counts change together or not at all.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    num::NonZeroU32,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{UpstreamStatus, first_verdict::FIRST_VERDICT, report::Vacated};
use crate::{
    balancer::{Balancer, STEPS, Tier},
    cause::Cause,
    group_config::{GroupConfig, HealthConfig, OnDown, UpstreamConfig, UpstreamState, WhenAllDown},
    health::{Condition, Health},
    lease::NoLease,
    limit::Limit,
    probe::Check,
};

/// The state of an upstream that its group does not have any more, in logs.
const REMOVED: &str = "removed";

/// How long a connection that came to nothing counts as load of its upstream.
const FAILED_COUNTS: Duration = Duration::from_secs(10);

/// How many such connections of a group are counted at a time.
const MOST_FAILED: usize = 1024;
/// How many newcomers one lease takes a step further, at most.
const EASED_AT_ONCE: usize = 16;

/// The state of a group.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) balancer: Balancer,
    standings: HashMap<SocketAddr, Standing>,
    /// Upstreams without probes that failed, and when they are tried again.
    resting: BTreeSet<(Instant, SocketAddr)>,
    /// Connections that came to nothing and count as load, and until when.
    failed: VecDeque<(Instant, SocketAddr)>,
    /// Newcomers, and when their load is to count less.
    easing: BTreeSet<(Instant, SocketAddr)>,
    /// How long a newcomer is one.
    slow_start: Duration,
    /// Until when the first verdict is awaited, if it ever was.
    verdict_until: Option<Instant>,
    /// Whether probes were begun.
    pub(super) is_probed: bool,
    /// Whether the group was removed.
    pub(super) retired: bool,
    health: HealthConfig,
    limit: Limit,
    when_all_down: WhenAllDown,
}

#[derive(Debug)]
struct Standing {
    config: UpstreamConfig,
    condition: Condition,
    cause: Option<Cause>,
    /// Cancelled when it goes down, if there are connections that end then.
    down: Option<CancellationToken>,
    /// It went down by what a client may have caused, and nothing else has said so yet.
    is_suspected: bool,
}

impl Standing {
    fn tier(&self) -> Tier {
        match (self.config.state, self.condition.health()) {
            (UpstreamState::Drain | UpstreamState::Maint, _) => Tier::Out,
            (UpstreamState::Ready, Health::Unknown) => Tier::Out,
            (UpstreamState::Ready, Health::Down) => Tier::Down,
            (UpstreamState::Ready, Health::Up) if self.config.backup => Tier::Backup,
            (UpstreamState::Ready, Health::Up) => Tier::Primary,
        }
    }

    fn is_undecided(&self) -> bool {
        self.config.state == UpstreamState::Ready && self.condition.health() == Health::Unknown
    }
}

impl Book {
    /// An upstream, and what is cancelled when it goes down, if its connections end then.
    pub(super) fn choose(
        &mut self,
        tried: &[SocketAddr],
    ) -> Result<(SocketAddr, Option<CancellationToken>), NoLease> {
        self.end_rests();
        self.forget_failed();
        self.ease();
        if !self.limit.allows(self.balancer.open()) {
            return Err(NoLease::GroupFull { limit: self.limit });
        }
        let address = self.balancer.choose(tried, self.when_all_down)?;
        let down = match (self.health.on_down, self.standings.get_mut(&address)) {
            (OnDown::Cut, Some(standing)) => Some(standing.down.get_or_insert_default().clone()),
            (OnDown::Cut | OnDown::Keep, _) => None,
        };
        Ok((address, down))
    }

    /// Takes over what holds for all upstreams alike.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "each upstream is placed by itself, in whatever order"
    )]
    pub(super) fn configure(&mut self, config: &GroupConfig) {
        let was_off = self.health.check == Check::Off;
        self.health = config.health.clone();
        self.limit = config.max_connections;
        self.when_all_down = config.when_all_down;
        self.slow_start = config.slow_start;
        if was_off || self.health.check != Check::Off {
            return;
        }
        // Without probes nothing speaks against any of them.
        for (&address, standing) in &mut self.standings {
            if standing.condition.health() != Health::Up {
                standing.condition = Condition::UP;
                let (weight, tier) = (standing.config.weight, standing.tier());
                self.balancer.put(address, weight, tier);
            }
        }
    }

    /// Adds an upstream or alters it, and says whether it lost its last connection by that.
    pub(super) fn put(&mut self, config: UpstreamConfig) -> Option<Vacated> {
        let UpstreamConfig {
            address,
            weight,
            state,
            ..
        } = config;
        let assumed = match self.health.check {
            Check::Off => Condition::UP,
            Check::Tcp | Check::SendExpect { .. } | Check::Custom(_) => Condition::UNKNOWN,
        };
        let standing = self.standings.entry(address).or_insert(Standing {
            config,
            condition: assumed,
            cause: None,
            down: None,
            is_suspected: false,
        });
        let stops = standing.config.state == UpstreamState::Ready && state != UpstreamState::Ready;
        standing.config = config;
        if state == UpstreamState::Maint {
            standing.condition = assumed;
        }
        let tier = standing.tier();
        self.place(address, weight, tier);
        let is_vacated = stops && self.balancer.active(address) == 0;
        is_vacated.then_some(Vacated {
            upstream: address,
            state: state.as_str(),
        })
    }

    /// Removes an upstream, whose connections go on, and says whether it has none.
    pub(super) fn remove(&mut self, upstream: SocketAddr) -> Option<Vacated> {
        self.standings.remove(&upstream)?;
        let is_vacated = self.balancer.active(upstream) == 0;
        self.balancer.remove(upstream);
        let state = REMOVED;
        is_vacated.then_some(Vacated { upstream, state })
    }

    /// Puts an upstream into its tier. One that comes to serve beside others starts slowly.
    fn place(&mut self, address: SocketAddr, weight: NonZeroU32, tier: Tier) {
        let enters = self.balancer.put(address, weight, tier);
        if enters && !self.slow_start.is_zero() && self.balancer.ease_in(address) {
            let next = Instant::now() + self.slow_start / STEPS;
            self.easing.insert((next, address));
        }
    }

    /// Takes those newcomers a step further for whom it is time.
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

    /// Counts the end of a connection, and says whether its upstream was to lose all.
    pub(super) fn give_back(&mut self, upstream: SocketAddr) -> Option<Vacated> {
        if self.balancer.give_back(upstream) > 0 {
            return None;
        }
        let state = match self.standings.get(&upstream).map(|it| it.config.state) {
            Some(_) | None if self.retired => REMOVED,
            Some(UpstreamState::Ready) => return None,
            Some(state @ (UpstreamState::Drain | UpstreamState::Maint)) => state.as_str(),
            None => REMOVED,
        };
        Some(Vacated { upstream, state })
    }

    /// The group was removed: says which upstreams have no connections.
    pub(super) fn retire(&mut self) -> Vec<Vacated> {
        self.retired = true;
        let mut vacated: Vec<_> = self.standings.keys().copied().collect();
        vacated.retain(|&upstream| self.balancer.active(upstream) == 0);
        vacated.sort_unstable();
        let state = REMOVED;
        let vacated = vacated.into_iter();
        vacated
            .map(|upstream| Vacated { upstream, state })
            .collect()
    }

    /// Remembers why an upstream failed, or forgets it.
    pub(super) fn explain(&mut self, upstream: SocketAddr, cause: Option<Cause>) {
        if let Some(standing) = self.standings.get_mut(&upstream) {
            standing.cause = cause;
        }
    }

    /// Why the upstream failed last.
    pub(super) fn cause(&self, upstream: SocketAddr) -> Option<&Cause> {
        self.standings.get(&upstream)?.cause.as_ref()
    }

    /// What is known about the upstream.
    pub(super) fn health(&self, upstream: SocketAddr) -> Option<Health> {
        Some(self.standings.get(&upstream)?.condition.health())
    }

    /// From now on the first verdict is awaited, if it is not there and can come.
    pub(super) fn await_verdict(&mut self) {
        if self.is_probed && self.undecided_until().is_none() && self.is_undecided() {
            self.verdict_until = Some(Instant::now() + FIRST_VERDICT);
        }
    }

    /// Until when the first verdict is awaited, if there is none; it may be over.
    pub(super) fn undecided_until(&self) -> Option<Instant> {
        self.verdict_until.filter(|_| self.is_undecided())
    }

    fn is_undecided(&self) -> bool {
        !self.balancer.serves() && self.standings.values().any(Standing::is_undecided)
    }

    /// Moves an upstream's condition, and says what its health was and is if that differs. If it goes
    /// down, its connections end that are to end then.
    pub(super) fn observe(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(Condition, &HealthConfig) -> Condition,
    ) -> Option<(Health, Health)> {
        let moved = self.shift(address, next);
        if matches!(moved, Some((_, Health::Down))) {
            self.cut(address);
        }
        moved
    }

    /// A probe or a dial failed, which confirms what was only suspected.
    pub(super) fn confirm(&mut self, address: SocketAddr) {
        if self
            .standings
            .get(&address)
            .is_some_and(|it| it.is_suspected)
        {
            self.cut(address);
        }
    }

    /// Ends the upstream's connections, if that is wanted of them.
    fn cut(&mut self, address: SocketAddr) {
        if let Some(standing) = self.standings.get_mut(&address) {
            standing.is_suspected = false;
            if let Some(down) = standing.down.take() {
                down.cancel();
            }
        }
    }

    fn shift(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(Condition, &HealthConfig) -> Condition,
    ) -> Option<(Health, Health)> {
        let standing = self.standings.get_mut(&address)?;
        if standing.config.state == UpstreamState::Maint {
            return None;
        }
        let before = standing.condition.health();
        standing.condition = next(standing.condition, &self.health);
        let after = standing.condition.health();
        if before == after {
            return None;
        }
        standing.is_suspected = false;
        let (weight, tier) = (standing.config.weight, standing.tier());
        self.place(address, weight, tier);
        if after == Health::Down && self.health.check == Check::Off {
            self.resting
                .insert((Instant::now() + self.health.interval, address));
        }
        Some((before, after))
    }

    /// Observes what a client may have caused: it takes no upstream down without which there is none, and
    /// ends no other client's connection.
    pub(super) fn suspect(
        &mut self,
        address: SocketAddr,
        next: impl FnOnce(Condition, &HealthConfig) -> Condition,
    ) -> Option<(Health, Health)> {
        let is_last = self.balancer.serving() <= 1;
        let moved = self.shift(address, |condition, health| {
            let next = next(condition, health);
            if is_last && next.health() == Health::Down {
                condition
            } else {
                next
            }
        });
        if let (Some((_, Health::Down)), Some(it)) = (moved, self.standings.get_mut(&address)) {
            it.is_suspected = true;
        }
        moved
    }

    /// A connection of the upstream came to nothing, and counts as load for a while.
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

    /// Puts on trial those upstreams without probes that have rested long enough.
    pub(super) fn end_rests(&mut self) {
        if self.resting.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(_, address)) = self.resting.first().filter(|rest| rest.0 <= now) {
            self.resting.pop_first();
            let Some(standing) = self.standings.get_mut(&address) else {
                continue;
            };
            if standing.condition.health() == Health::Down && self.health.check == Check::Off {
                standing.condition = Condition::on_trial(self.health.thresholds());
                let (weight, tier) = (standing.config.weight, standing.tier());
                self.place(address, weight, tier);
            }
        }
    }

    pub(super) fn status(&self, address: SocketAddr) -> Option<UpstreamStatus> {
        let Standing {
            config,
            condition,
            cause,
            down: _,
            is_suspected: _,
        } = self.standings.get(&address)?;
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
