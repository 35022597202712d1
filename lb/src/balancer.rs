//! Exact least connections over weight.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    num::NonZeroU32,
};

use crate::{group_config::WhenAllDown, lease::NoLease};

/// Where an upstream stands when one is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tier {
    /// Chosen first.
    Primary,
    /// Chosen when no primary is left.
    Backup,
    /// Down: chosen only when all are, and only if the group tries those.
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

/// In how many steps a newcomer comes to its share.
pub(crate) const STEPS: u32 = 16;

/// Chooses the upstream with the fewest connections over its weight, and counts.
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
    /// Connections and weights of all that serve.
    serving: LoadTotal,
}

/// Sums over upstreams.
#[derive(Clone, Copy, Debug, Default)]
struct LoadTotal {
    active: u64,
    weight: u64,
}

#[derive(Clone, Copy, Debug)]
struct BalancerMember {
    active: u32,
    /// Connections that came to nothing lately, which count as if they were open.
    failed: u32,
    /// What a newcomer's load counts more, and how much less with each step.
    handicap: u32,
    step: u32,
    weight: NonZeroU32,
    /// When it was chosen last, in choices of the balancer.
    turn: u64,
    tier: Tier,
    /// Removed from the group, and kept only until its last lease is back.
    removed: bool,
}

/// A member's place in the order of choice: least load, then longest not chosen.
#[derive(Clone, Copy, Debug)]
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
    /// Adds an upstream or alters one; its connections stay counted either way. Says whether it comes to
    /// serve by that.
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

    /// Has an upstream that comes to serve count as loaded as the others are, in the mean. Returns whether
    /// that is more than it is.
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

    /// Takes a newcomer a step further, and says whether there are more.
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

    /// Chooses the least loaded upstream that was not tried yet, and counts it.
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

    /// Counts a connection that somebody else chose, also on an upstream that is not configured.
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
        // Before anything that could forget it.
        self.change(address, |member| member.active += 1);
    }

    /// Returns what [`Balancer::choose`] or [`Balancer::adopt`] counted, and says how many are left.
    pub(crate) fn give_back(&mut self, address: SocketAddr) -> u32 {
        self.open -= 1;
        self.change(address, |member| member.active -= 1);
        self.active(address)
    }

    /// Whether an upstream that is up takes connections.
    pub(crate) fn serves(&self) -> bool {
        !self.primaries.is_empty() || !self.backups.is_empty()
    }

    /// A connection of the upstream came to nothing, and counts as load until that is forgotten.
    pub(crate) fn remember_failed(&mut self, address: SocketAddr) {
        if self.members.contains_key(&address) {
            self.change(address, |member| {
                member.failed = member.failed.saturating_add(1);
            });
        }
    }

    /// Forgets one of those connections.
    pub(crate) fn forget_failed(&mut self, address: SocketAddr) {
        if self.members.contains_key(&address) {
            self.change(address, |member| {
                member.failed = member.failed.saturating_sub(1);
            });
        }
    }

    /// How many upstreams are up and ready.
    pub(crate) fn serving(&self) -> usize {
        self.primaries.len() + self.backups.len()
    }

    /// How many connections the upstream has, removed or not.
    pub(crate) fn active(&self, address: SocketAddr) -> u32 {
        self.members.get(&address).map_or(0, |member| member.active)
    }

    /// How many connections all upstreams have, removed ones included.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// Changes a member, its place in the order, and whether it is remembered at all.
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
