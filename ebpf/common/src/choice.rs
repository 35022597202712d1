//! Which worker gets a connection.

use core::hint::black_box;

/// The most workers that a gateway can have when it steers: the slots of their listeners.
pub const MOST_WORKERS: u32 = 64;

/// The processes that can have workers: the primary, and the one that stands by.
pub const ROLES: u32 = 2;

/// The process that has a role: its pid, when it was started (clock ticks since the system was), and since
/// when it has the role (seconds since 1970). All zero is nobody.
pub type RoleEntry = [u64; 3];

/// A worker's slot among the listeners of both processes.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub const fn slot(role: u32, worker: u32) -> u32 {
    role * MOST_WORKERS + worker % MOST_WORKERS
}

/// The bits of a step from worker to worker.
const STEP_BITS: u32 = 8;
/// The highest step.
const LAST_STEP: u64 = MOST_WORKERS as u64 - 1;
/// The highest load that is told apart from higher ones.
const HIGHEST: u64 = u64::MAX >> (STEP_BITS + 2);

/// How busy one worker is. Its process writes `open`; the kernel adds to `chosen`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Load {
    /// Connections that it carries.
    pub open: u64,
    /// Connections that were given to it since it last had none to accept.
    pub chosen: u64,
}

/// How busy all workers are.
pub type Loads = [Load; MOST_WORKERS as usize];

impl Load {
    /// What it has and will have to carry.
    #[inline]
    pub const fn total(self) -> u64 {
        self.open.wrapping_add(self.chosen)
    }
}

/// The worker with the least load; `turn` decides between equals, so that none is preferred. `None`
/// if there are no workers.
///
/// Loads count up to 2^54. Without a branch on them: for each, the kernel's verifier would follow both
/// ways to the end of the loop.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub fn least(workers: u32, turn: u32, loads: &Loads) -> Option<u32> {
    let workers = if workers > MOST_WORKERS {
        MOST_WORKERS
    } else {
        workers
    };
    let mut best = u64::MAX >> 1;
    for step in 0..MOST_WORKERS {
        if step >= workers {
            break;
        }
        let load = loads[index(nth(workers, turn, step))].total() & HIGHEST;
        let candidate = load << STEP_BITS | u64::from(step);
        // The compiler must know neither what is compared nor what comes of it, or it makes a
        // branch of this.
        let is_less = black_box(black_box(candidate).wrapping_sub(best) >> 63).wrapping_neg();
        best ^= (best ^ candidate) & is_less;
    }
    if workers == 0 {
        return None;
    }
    Some(nth(workers, turn, (best & LAST_STEP) as u32))
}

/// A worker's place among the loads. The kernel's verifier is to see that it is in bounds, so the
/// compiler must not know it.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub fn index(worker: u32) -> usize {
    (black_box(worker) % MOST_WORKERS) as usize
}

/// The worker that is so many steps behind the one whose turn it is; `workers` is not 0.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub const fn nth(workers: u32, turn: u32, step: u32) -> u32 {
    // The turn first: it may be close to where numbers begin again.
    (turn % workers + step) % workers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slots_of_two_processes_are_apart() {
        let slots = (0..ROLES).flat_map(|role| (0..MOST_WORKERS).map(move |n| slot(role, n)));
        assert!(slots.eq(0..ROLES * MOST_WORKERS));
    }

    #[test]
    fn equals_take_turns() {
        let mut loads = [Load::default(); 64];
        for turn in 0..4000 {
            let chosen = least(4, turn, &loads).unwrap();
            loads[index(chosen)].chosen += 1;
        }
        assert_eq!(loads.map(Load::total)[..5], [1000, 1000, 1000, 1000, 0]);
        let equal = [Load { open: 3, chosen: 4 }; 64];
        let first: Vec<_> = (0..4).map(|turn| least(4, turn, &equal)).collect();
        assert_eq!(first, [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(least(0, 7, &equal), None);
    }

    proptest! {
        #[test]
        fn nobody_has_less_than_the_chosen_one(
            loads in proptest::collection::vec(prop_oneof![0..3_u64, 0..=HIGHEST], 64),
            workers in 0..80_u32,
            turn in prop_oneof![any::<u32>(), u32::MAX - 100..=u32::MAX],
        ) {
            let mut all = [Load::default(); 64];
            all.iter_mut().zip(&loads).for_each(|(load, open)| load.open = *open);
            let chosen = least(workers, turn, &all).map(|worker| loads[index(worker)]);
            let lowest = loads.iter().copied().take(workers as usize).min();
            prop_assert_eq!(chosen, lowest);
        }
    }
}
