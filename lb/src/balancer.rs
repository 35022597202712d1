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

/// Chooses the upstream with the fewest connections over its weight, and counts.
///
/// Choosing and counting are one step, so two clients who arrive together never take the same last
/// place. Both cost the logarithm of the number of upstreams.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    members: HashMap<SocketAddr, Member>,
    primaries: BTreeSet<Rank>,
    backups: BTreeSet<Rank>,
    down: BTreeSet<Rank>,
    turn: u64,
    open: u32,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    active: u32,
    /// Connections that came to nothing lately, which count as if they were open.
    failed: u32,
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

impl Member {
    fn rank(self, address: SocketAddr) -> Rank {
        Rank {
            load: self.active.saturating_add(self.failed),
            weight: self.weight,
            turn: self.turn,
            address,
        }
    }
}

impl Balancer {
    /// Adds an upstream or alters one; its connections stay counted either way.
    pub(crate) fn put(&mut self, address: SocketAddr, weight: NonZeroU32, tier: Tier) {
        self.members.entry(address).or_insert(Member {
            active: 0,
            failed: 0,
            weight,
            turn: 0,
            tier: Tier::Out,
            removed: false,
        });
        self.change(address, |member| {
            *member = Member {
                weight,
                tier,
                removed: false,
                ..*member
            };
        });
    }

    /// Removes an upstream; its open connections stay counted until they end.
    pub(crate) fn remove(&mut self, address: SocketAddr) {
        self.change(address, |member| {
            *member = Member {
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
            *member = Member {
                active: member.active + 1,
                turn,
                ..*member
            };
        });
        Ok(address)
    }

    /// Counts a connection that somebody else chose, also on an upstream that is not configured.
    pub(crate) fn adopt(&mut self, address: SocketAddr) {
        self.members.entry(address).or_insert(Member {
            active: 0,
            failed: 0,
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
    fn change(&mut self, address: SocketAddr, change: impl FnOnce(&mut Member)) {
        let member = self.members.get_mut(&address);
        let member = member.expect("an upstream is remembered while it is used or configured");
        let before = *member;
        change(member);
        let after = *member;
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
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn weight(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn balancer(members: &[(u16, u32, Tier)]) -> Balancer {
        let mut balancer = Balancer::default();
        for &(port, share, tier) in members {
            balancer.put(address(port), weight(share), tier);
        }
        balancer
    }

    fn choose(balancer: &mut Balancer) -> u16 {
        balancer.choose(&[], WhenAllDown::Refuse).unwrap().port()
    }

    #[test]
    fn equals_are_chosen_in_turn() {
        let mut three = balancer(&[1, 2, 3].map(|port| (port, 1, Tier::Primary)));
        let round: Vec<_> = (0..6).map(|_| choose(&mut three)).collect();
        assert_eq!(round, [1, 2, 3, 1, 2, 3]);
        for port in [2, 3, 1] {
            three.give_back(address(port));
        }
        let round: Vec<_> = (0..3).map(|_| choose(&mut three)).collect();
        assert_eq!(
            round,
            [1, 2, 3],
            "the one not chosen for the longest time goes first"
        );
    }

    #[test]
    fn twice_the_weight_gets_twice_the_connections() {
        let mut two = balancer(&[(1, 2, Tier::Primary), (2, 1, Tier::Primary)]);
        for _ in 0..300 {
            choose(&mut two);
        }
        assert_eq!((two.active(address(1)), two.active(address(2))), (200, 100));
    }

    #[test]
    fn the_greatest_weights_are_compared_without_rounding() {
        let mut two = balancer(&[
            (1, u32::MAX, Tier::Primary),
            (2, u32::MAX - 1, Tier::Primary),
        ]);
        assert_eq!(
            [choose(&mut two), choose(&mut two), choose(&mut two)],
            [1, 2, 1]
        );
    }

    #[test]
    fn backups_serve_when_no_primary_is_left() {
        let mut mixed = balancer(&[(1, 1, Tier::Primary), (2, 1, Tier::Backup)]);
        assert_eq!(
            [choose(&mut mixed), choose(&mut mixed)],
            [1, 1],
            "however loaded it is"
        );
        let next = mixed.choose(&[address(1)], WhenAllDown::Refuse);
        assert_eq!(next, Ok(address(2)), "the primary was tried");
        mixed.put(address(1), weight(1), Tier::Down);
        assert_eq!(choose(&mut mixed), 2, "the primary is down");
    }

    #[test]
    fn those_that_are_down_are_tried_only_if_all_are_and_the_group_says_so() {
        let mut mixed = balancer(&[(1, 1, Tier::Primary), (2, 1, Tier::Down), (3, 1, Tier::Out)]);
        let tried = [address(1)];
        assert_eq!(
            mixed.choose(&tried, WhenAllDown::TryAll),
            Err(NoLease::AllTried)
        );
        mixed.remove(address(1));
        assert_eq!(
            mixed.choose(&[], WhenAllDown::Refuse),
            Err(NoLease::NoneHealthy)
        );
        assert_eq!(mixed.choose(&[], WhenAllDown::TryAll), Ok(address(2)));
        assert_eq!(
            mixed.choose(&[address(2)], WhenAllDown::TryAll),
            Err(NoLease::AllTried)
        );
        mixed.remove(address(2));
        assert_eq!(
            mixed.choose(&[], WhenAllDown::TryAll),
            Err(NoLease::NoneHealthy)
        );
    }

    #[test]
    fn a_removed_upstream_is_counted_until_its_last_connection_ends() {
        let mut one = balancer(&[(1, 1, Tier::Primary)]);
        choose(&mut one);
        one.remove(address(1));
        assert_eq!((one.active(address(1)), one.open()), (1, 1));
        one.put(address(1), weight(1), Tier::Primary);
        choose(&mut one);
        assert_eq!(one.active(address(1)), 2, "it came back and kept its count");
        one.remove(address(1));
        one.give_back(address(1));
        one.give_back(address(1));
        assert_eq!(
            (one.members.len(), one.open()),
            (0, 0),
            "now it is forgotten"
        );
    }
}
