//! Every interleaving of threads at the lock-free counter, explored with loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p lb --release --test loom --locked --target-dir target/loom
//! ```
//!
//! The counter is taken by its path, since the crate needs tokio's sockets, which there are not
//! under loom.
#![cfg(loom)]

#[path = "../src/counter.rs"]
pub mod counter;
#[path = "../src/limit.rs"]
pub mod limit;

use std::num::NonZeroU32;
use std::sync::Arc;

use counter::Counter;
use limit::Limit;

#[test]
fn loom_finds_no_interleaving_that_exceeds_the_limit() {
    loom::model(|| {
        let limit = Limit::AtMost(NonZeroU32::new(1).unwrap());
        let counter = Arc::new(Counter::new());
        let racers: Vec<_> = (0..2)
            .map(|_| {
                let counter = Arc::clone(&counter);
                loom::thread::spawn(move || {
                    let claim = counter.claim(limit);
                    assert!(counter.open() <= 1);
                    drop(claim);
                })
            })
            .collect();
        let own = counter.claim(limit);
        assert!(counter.open() <= 1);
        drop(own);
        racers.into_iter().for_each(|racer| racer.join().unwrap());
        assert_eq!(counter.open(), 0);
        assert!(counter.claim(limit).is_some(), "every claim came back");
    });
}

#[test]
fn loom_finds_no_interleaving_that_refuses_both_of_two_for_one_place() {
    loom::model(|| {
        let limit = Limit::AtMost(NonZeroU32::new(1).unwrap());
        let counter = Arc::new(Counter::new());
        let other = {
            let counter = Arc::clone(&counter);
            loom::thread::spawn(move || counter.claim(limit))
        };
        let own = counter.claim(limit);
        let other = other.join().unwrap();
        assert!(
            own.is_some() != other.is_some(),
            "exactly one of two gets the slot"
        );
    });
}
