//! Random histories of a gateway, over several processes and with a simulated clock: the code that
//! decides is the real one, and a simple model says after every step what must be true.
//!
//! There are no sockets: clients start where their handshake would end, upstreams are addresses,
//! and messages between processes wait in queues until the history delivers them. A history that
//! fails panics with its seed and its steps.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime;
use tokio::task::coop::unconstrained;

mod arrivals;
mod process;
mod reloads;
mod rules;
mod upgrades;
mod world;

use rules::Files;
use world::World;

/// Number of clients.
const CLIENTS: usize = 3;
/// Maximum number of groups.
const GROUPS: usize = 3;
/// Number of histories that are tried unless `PORTCULLIS_SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 200;

/// A random number generator whose numbers are the same for the same seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    /// Returns true in `chance` of a hundred cases.
    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// Returns a random subset of `count` elements, one bit each.
    fn some(&mut self, count: usize) -> u8 {
        u8::try_from(self.below(1 << count)).unwrap()
    }
}

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls a task once. Returns its result if it has ended.
fn poll<T>(task: &mut Task<T>) -> Option<T> {
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn whatever_happens_in_whatever_order_what_is_in_force_decides_and_counts_are_right() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seeds = number("PORTCULLIS_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let (first, last) = match number("PORTCULLIS_SIMULATION_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, seeds),
    };
    let files = Files::new();
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    for seed in first..last {
        let mut world = World::new(&files, seed);
        let history = AssertUnwindSafe(|| runtime.block_on(unconstrained(world.run())));
        if let Err(panic) = catch_unwind(history) {
            println!("seed {seed} (PORTCULLIS_SIMULATION_SEED={seed} tries it alone):");
            println!("{}", world.trace.join("\n"));
            resume_unwind(panic);
        }
    }
}
