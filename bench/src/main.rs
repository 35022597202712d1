//! Portcullis and its peers, measured side by side in one run: `cargo run --profile dist -p bench`.
//!
//! Everything runs on loopback and ends by itself. The processes of a measurement have cores of
//! their own: the gateways the first ones, the load and the upstream the others.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures are printed with a few digits"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod certs;
mod driver;
mod fallible;
mod load;
mod peers;
mod plan;
mod report;
mod syscalls;
mod upstream;
mod usage;
mod yardstick;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use fallible::Fallible;

/// Measures portcullis beside haproxy, nginx, envoy and a plain relay of tokio and rustls.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    plan: plan::Plan,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make connections as one client and print what came of it; the driver runs this.
    #[command(hide = true)]
    Load(load::Load),
    /// Count the system calls of a connection, with strace. `bench/syscalls` runs this.
    Syscalls(syscalls::Syscalls),
    /// Answer as an upstream does; the driver runs this.
    #[command(hide = true)]
    Upstream {
        /// Where.
        address: SocketAddr,
    },
    /// Relay plainly; the driver runs this.
    #[command(hide = true)]
    Yardstick {
        /// Where.
        address: SocketAddr,
        /// Where to.
        upstream: SocketAddr,
        /// The directory of certificates.
        certs: PathBuf,
        /// How many threads.
        threads: NonZeroUsize,
    },
}

fn main() -> Fallible<()> {
    let command = Command::parse();
    match command.action {
        None => driver::run(&command.plan),
        Some(Action::Load(load)) => load::run(&load),
        Some(Action::Syscalls(syscalls)) => syscalls::run(&syscalls),
        Some(Action::Upstream { address }) => upstream::run(address),
        Some(Action::Yardstick {
            address,
            upstream,
            certs,
            threads,
        }) => yardstick::run(address, upstream, &certs, threads),
    }
}
