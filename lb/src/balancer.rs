//! Exact choice of the upstream with the fewest connections over its weight.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;

use crate::group_config::WhenAllDown;
use crate::no_lease::NoLease;

/// Position of an upstream in the order of choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Chosen first.
    Primary,
    /// Chosen when no primary is left.
    Backup,
    /// Down: chosen only when no upstream is up, and only under [`WhenAllDown::TryAll`].
    Down,
    /// Never chosen.
    Out,
}

impl Tier {
    fn serves(self) -> bool {
        match self {
            Self::Primary | Self::Backup => true,
            Self::Down | Self::Out => false,
        }
    }
}

/// Number of steps of the slow start, in which an upstream that has come up reaches its share.
pub(crate) const STEPS: u32 = 16;

/// Chooses the upstream with the fewest connections over its weight, and counts the connection.
///
/// Choosing and counting are one step, so two clients who arrive together never take the same last
/// slot. Both cost the logarithm of the number of upstreams.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    members: HashMap<SocketAddr, BalancerMember>,
    primaries: BTreeSet<Rank>,
    backups: BTreeSet<Rank>,
    down: BTreeSet<Rank>,
    turn: u64,
    open: u32,
    /// Connections and weights of all upstreams that serve.
    serving: LoadTotal,
}

/// Sums of connections and weights over upstreams.
#[derive(Debug, Clone, Copy, Default)]
struct LoadTotal {
    active: u64,
    weight: u64,
}

#[derive(Debug, Clone, Copy)]
struct BalancerMember {
    active: u32,
    /// Connections that failed lately, which count as if they were open.
    failed: u32,
    /// Additional load during the slow start, as a number of connections; it falls by `step` with
    /// each step of [`Balancer::ease`].
    handicap: u32,
    step: u32,
    weight: NonZeroU32,
    /// Value of the balancer's counter of choices when this upstream was last chosen.
    turn: u64,
    tier: Tier,
    /// True if it was removed from the group; the entry is kept only until its last lease is back.
    removed: bool,
}

/// Position of a member in the order of choice: least load, then longest not chosen.
#[derive(Debug, Clone, Copy)]
struct Rank {
    load: u32,
    weight: NonZeroU32,
    turn: u64,
    address: SocketAddr,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        // a/v < b/w exactly when a*w < b*v, and u32 times u32 fits u64: no rounding.
        let load = u64::from(self.load) * u64::from(other.weight.get());
        let others = u64::from(other.load) * u64::from(self.weight.get());
        load.cmp(&others)
            .then_with(|| self.turn.cmp(&other.turn))
            .then_with(|| self.address.cmp(&other.address))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl BalancerMember {
    fn rank(self, address: SocketAddr) -> Rank {
        Rank {
            load: self
                .active
                .saturating_add(self.failed)
                .saturating_add(self.handicap),
            weight: self.weight,
            turn: self.turn,
            address,
        }
    }
}

impl LoadTotal {
    fn take_out(&mut self, member: BalancerMember) {
        if member.tier.serves() {
            self.active -= u64::from(member.active);
            self.weight -= u64::from(member.weight.get());
        }
    }

    fn put_in(&mut self, member: BalancerMember) {
        if member.tier.serves() {
            self.active += u64::from(member.active);
            self.weight += u64::from(member.weight.get());
        }
    }
}

impl Balancer {
    /// Adds an upstream or alters one; its connections stay counted either way. Returns true if it
    /// begins to serve by that.
    pub(crate) fn put(&mut self, address: SocketAddr, weight: NonZeroU32, tier: Tier) -> bool {
        self.members.entry(address).or_insert(BalancerMember {
            active: 0,
            failed: 0,
            handicap: 0,
            step: 0,
            weight,
            turn: 0,
            tier: Tier::Out,
            removed: false,
        });
        let served = self.members[&address].tier.serves();
        self.change(address, |member| {
            *member = BalancerMember {
                weight,
                tier,
                removed: false,
                handicap: if tier.serves() { member.handicap } else { 0 },
                ..*member
            };
        });
        tier.serves() && !served
    }

    /// Gives an upstream that begins to serve as much load, over its weight, as the others have in
    /// the mean. Returns true if that is more than it has.
    pub(crate) fn ease_in(&mut self, address: SocketAddr) -> bool {
        let total = self.serving;
        let mut handicap = 0;
        self.change(address, |member| {
            let weight = u64::from(member.weight.get());
            let active = total.active.saturating_sub(member.active.into());
            let others = total.weight.saturating_sub(weight);
            let mean = u128::from(active) * u128::from(weight) / u128::from(others.max(1));
            let mean = u32::try_from(mean).unwrap_or(u32::MAX);
            handicap = mean.saturating_sub(member.active);
            (member.handicap, member.step) = (handicap, handicap.div_ceil(STEPS));
        });
        handicap > 0
    }

    /// Takes a newcomer one step further. Returns true if there are more steps.
    pub(crate) fn ease(&mut self, address: SocketAddr) -> bool {
        let Some(member) = self.members.get(&address) else {
            return false;
        };
        let left = member.handicap.saturating_sub(member.step);
        self.change(address, |member| member.handicap = left);
        left > 0
    }

    /// Removes an upstream; its open connections stay counted until they end.
    pub(crate) fn remove(&mut self, address: SocketAddr) {
        self.change(address, |member| {
            *member = BalancerMember {
                tier: Tier::Out,
                removed: true,
                ..*member
            };
        });
    }

    /// Chooses the least loaded upstream that is not in `tried`, and counts the connection.
    pub(crate) fn choose(
        &mut self,
        tried: &[SocketAddr],
        when_all_down: WhenAllDown,
    ) -> Result<SocketAddr, NoLease> {
        let untried = |rank: &&Rank| !tried.contains(&rank.address);
        let all_down = self.primaries.is_empty() && self.backups.is_empty();
        let chosen = match when_all_down {
            WhenAllDown::TryAll if all_down => self.down.iter().find(untried),
            WhenAllDown::TryAll | WhenAllDown::Refuse => self
                .primaries
                .iter()
                .find(untried)
                .or_else(|| self.backups.iter().find(untried)),
        };
        let Some(&Rank { address, .. }) = chosen else {
            let none = all_down && (when_all_down == WhenAllDown::Refuse || self.down.is_empty());
            return Err(if none {
                NoLease::NoneHealthy
            } else {
                NoLease::AllTried
            });
        };
        self.turn += 1;
        self.open += 1;
        let turn = self.turn;
        self.change(address, |member| {
            *member = BalancerMember {
                active: member.active + 1,
                turn,
                ..*member
            };
        });
        Ok(address)
    }

    /// Counts a connection for which another process chose the upstream, which need not be
    /// configured.
    pub(crate) fn adopt(&mut self, address: SocketAddr) {
        self.members.entry(address).or_insert(BalancerMember {
            active: 0,
            failed: 0,
            handicap: 0,
            step: 0,
            weight: NonZeroU32::MIN,
            turn: 0,
            tier: Tier::Out,
            removed: true,
        });
        self.open += 1;
        // The count comes before anything that could forget the upstream.
        self.change(address, |member| member.active += 1);
    }

    /// Returns what [`Balancer::choose`] or [`Balancer::adopt`] counted. The result is the number
    /// of connections that the upstream still has.
    pub(crate) fn give_back(&mut self, address: SocketAddr) -> u32 {
        self.open -= 1;
        self.change(address, |member| member.active -= 1);
        self.active(address)
    }

    /// Returns true if at least one upstream is up and ready.
    pub(crate) fn serves(&self) -> bool {
        !self.primaries.is_empty() || !self.backups.is_empty()
    }

    /// Counts a failed connection of the upstream as load until [`Balancer::forget_failed`].
    pub(crate) fn remember_failed(&mut self, address: SocketAddr) {
        if self.members.contains_key(&address) {
            self.change(address, |member| {
                member.failed = member.failed.saturating_add(1);
            });
        }
    }

    /// Takes back one [`Balancer::remember_failed`].
    pub(crate) fn forget_failed(&mut self, address: SocketAddr) {
        if self.members.contains_key(&address) {
            self.change(address, |member| {
                member.failed = member.failed.saturating_sub(1);
            });
        }
    }

    /// Returns the number of upstreams that are up and ready.
    pub(crate) fn serving(&self) -> usize {
        self.primaries.len() + self.backups.len()
    }

    /// Returns the number of upstreams that are up and ready, or down and ready otherwise.
    pub(crate) fn ready(&self) -> usize {
        self.serving() + self.down.len()
    }

    /// Returns the number of connections of the upstream, removed or not.
    pub(crate) fn active(&self, address: SocketAddr) -> u32 {
        self.members.get(&address).map_or(0, |member| member.active)
    }

    /// Returns the number of connections of all upstreams, removed ones included.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// Changes a member and its position in the order, and forgets it if it was removed and has no
    /// connections.
    fn change(&mut self, address: SocketAddr, change: impl FnOnce(&mut BalancerMember)) {
        let member = self.members.get_mut(&address);
        let member = member.expect("an upstream is remembered while it is used or configured");
        let before = *member;
        change(member);
        let after = *member;
        self.serving.take_out(before);
        self.serving.put_in(after);
        if let Some(tier) = self.tier(before.tier) {
            tier.remove(&before.rank(address));
        }
        if let Some(tier) = self.tier(after.tier) {
            tier.insert(after.rank(address));
        }
        if after.removed && after.active == 0 {
            self.members.remove(&address);
        }
    }

    fn tier(&mut self, tier: Tier) -> Option<&mut BTreeSet<Rank>> {
        match tier {
            Tier::Primary => Some(&mut self.primaries),
            Tier::Backup => Some(&mut self.backups),
            Tier::Down => Some(&mut self.down),
            Tier::Out => None,
        }
    }
}

#[cfg(test)]
mod tests;
