//! Balances byte streams over upstreams: least connections, limits, health, relay, drain.
//!
//! The main type is [`LoadBalancer`]: make it from a [`LoadBalancerConfig`],
//! [`start`](LoadBalancer::start) it, [`handle`](LoadBalancer::handle) streams,
//! [`apply`](LoadBalancer::apply) changes, and [`stop`](LoadBalancer::stop) it. It knows no TLS and
//! reads no files; the embedding program passes it any stream that can be read, written and
//! [aborted](Downstream::abort).
//!
//! ```
//! use lb::{GroupConfig, LoadBalancer, LoadBalancerConfig, StreamOutcome, UpstreamConfig};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // An upstream that sends `hello` to every client, and a listener for clients.
//! let upstream = TcpListener::bind("127.0.0.1:0").await?;
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let group = GroupConfig::new("greeters", vec![UpstreamConfig::new(upstream.local_addr()?)]);
//! let config = LoadBalancerConfig { groups: vec![group], ..LoadBalancerConfig::default() };
//! let balancer = LoadBalancer::new(config)?;
//! balancer.start()?;
//!
//! let greet = async {
//!     loop {
//!         let (mut stream, _) = upstream.accept().await?;
//!         // A probe hangs up at once; a client listens.
//!         stream.write_all(b"hello").await.ok();
//!     }
//! };
//! let visit = async {
//!     // Before the first probe has passed no upstream takes connections.
//!     assert!(balancer.group("greeters").unwrap().first_verdict().await);
//!     let mut client = TcpStream::connect(listener.local_addr()?).await?;
//!     let (stream, _) = listener.accept().await?;
//!     let listen = async {
//!         let mut heard = String::new();
//!         client.read_to_string(&mut heard).await?;
//!         client.shutdown().await?;
//!         Ok::<_, std::io::Error>(heard)
//!     };
//!     let (ended, heard) = tokio::join!(balancer.handle("somebody", "greeters", stream), listen);
//!     assert!(matches!(ended.unwrap().outcome, StreamOutcome::Finished));
//!     heard
//! };
//! let heard: std::io::Result<String> = tokio::select! {
//!     ended = greet => ended,
//!     heard = visit => heard,
//! };
//! assert_eq!(heard?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! Decisions are separate from actions. `balancer`, `health`, `limiter` and `counter` decide: they
//! hold no socket, and none but [`Limiter::admit_within`] awaits anything or asks for the time; the
//! clock for rates is passed in. `probe`, `dial`, `relay` and `drain` act.
//!
//! Everything that is counted is counted by a guard: a [`Lease`] on an upstream, a [`ClientSlot`]
//! of a client, a [`Claim`] on a [`Counter`], a [`DrainGuard`] in a [`Drain`]. Dropping the guard
//! returns the count, so that a return, an error, a panic and a cancellation all have the same
//! effect.

#![forbid(unsafe_code)]
// Under loom tokio has no sockets: `tests/loom.rs` explores the counter without the crate.
#![cfg(not(loom))]

mod balancer;
mod cause;
mod client_slots;
mod clock;
mod config_error;
mod counter;
mod dial;
mod drain;
mod ends;
mod group;
mod group_config;
mod health;
mod lease;
mod limit;
mod limiter;
mod load_balancer;
mod no_lease;
mod probe;
mod probe_kind;
mod probe_permits;
mod relay;
mod tcp;

pub use cause::{Excerpt, FailureCause};
pub use client_slots::{ClientSlot, QueuedSlot, SlotOutcome};
pub use clock::{TokioClock, TokioInstant};
pub use config_error::{ConfigError, ConfigFault, LONGEST_TIME};
pub use counter::{Claim, Counter};
pub use dial::{DialError, DialReport, Dialed, dial};
pub use drain::{Drain, DrainGuard, Drained};
pub use group::{UpstreamGroup, UpstreamStatus};
pub use group_config::{
    DialConfig, GroupConfig, HealthConfig, OnDown, RelayConfig, UpstreamConfig, UpstreamState,
    WhenAllDown,
};
pub use health::UpstreamHealth;
pub use lease::Lease;
pub use limit::{ClientLimits, Limit, Rate, SharedName};
pub use limiter::{ClientDenied, Limiter};
pub use load_balancer::{
    BalancerChange, LoadBalancer, LoadBalancerConfig, ProbeStartError, StreamEnd, StreamOutcome,
    StreamRejection,
};
pub use no_lease::NoLease;
pub use peer::{BufferUse, Downstream, PooledBuffer, left};
pub use probe_kind::{Probe, ProbeKind};
pub use relay::{RelayEnd, RelayError, Traffic, relay};
