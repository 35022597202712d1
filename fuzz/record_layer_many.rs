//! Many comparisons of the gateway's record layer with rustls' own, without libFuzzer: inputs are
//! made from a seed.
//!
//! `cargo run --release --example record_layer_many -- --inputs 1000000 --seed 1`
//!
//! Servers that go on after an input get the next one too. A difference ends it, with the seed and
//! the number of the input that it was found at.

use std::process::ExitCode;
use std::time::Instant;

use portcullis_fuzz::beside_rustls::{Same, Servers};
use portcullis_fuzz::generator::Numbers;

/// How many inputs a pair of servers gets at most.
const A_PAIR: u64 = 32;

fn main() -> ExitCode {
    let (mut inputs, mut seed) = (100_000, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (&*name, value) {
            ("--inputs", Some(value)) => inputs = value,
            ("--seed", Some(value)) => seed = value,
            _ => {
                eprintln!("error: expected [--inputs NUMBER] [--seed NUMBER], and not {name:?}");
                return ExitCode::FAILURE;
            }
        }
    }
    match compare(inputs, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(difference) => {
            eprintln!("error: {difference}");
            ExitCode::FAILURE
        }
    }
}

/// How many inputs came to what.
#[derive(Debug, Default)]
struct Counts {
    handshakes: u64,
    open: u64,
    ended: u64,
    listed: u64,
    skipped: u64,
}

fn compare(inputs: u64, seed: u64) -> Result<(), String> {
    let begin = Instant::now();
    let mut counts = Counts::default();
    let mut numbers = Numbers::new(seed);
    let mut left = 0;
    let mut servers = Servers::new(0);
    // Inputs that are skipped are made in addition, and are no comparisons.
    while counts.open + counts.ended + counts.listed < inputs {
        if left == 0 {
            servers = Servers::new(numbers.suite());
            counts.handshakes += 1;
            left = A_PAIR;
        }
        let input = numbers.input();
        let same = servers.compare(&input);
        let same = same.map_err(|difference| {
            format!("{difference}\nseed {seed}, after {counts:?}, with the last input {input:?}")
        })?;
        left = if same == Same::Open { left - 1 } else { 0 };
        *match same {
            Same::Open => &mut counts.open,
            Same::Ended => &mut counts.ended,
            Same::Listed => &mut counts.listed,
            Same::Skipped => &mut counts.skipped,
        } += 1;
    }
    let Counts {
        handshakes,
        open,
        ended,
        listed,
        skipped,
    } = counts;
    println!(
        "seed {seed}: {inputs} inputs compared in {} s, no difference that is not listed: {open} went on, {ended} \
         ended, {listed} ended with a listed difference; {handshakes} handshakes, {skipped} inputs skipped",
        begin.elapsed().as_secs()
    );
    Ok(())
}
