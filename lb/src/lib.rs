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
//! let balancer = LoadBalancer::new(LoadBalancerConfig { groups: vec![group], ..LoadBalancerConfig::default() })?;
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
//! let heard: std::io::Result<String> = tokio::select! { ended = greet => ended, heard = visit => heard };
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

pub mod counter;
pub mod limit;

// Under loom tokio has no sockets, and only the counter is explored.
#[cfg(not(loom))]
mod balancer;
#[cfg(not(loom))]
pub mod cause;
#[cfg(not(loom))]
pub mod client_slots;
#[cfg(not(loom))]
pub mod clock;
#[cfg(not(loom))]
pub mod config_error;
#[cfg(not(loom))]
pub mod dial;
#[cfg(not(loom))]
pub mod drain;
#[cfg(not(loom))]
mod ends;
#[cfg(not(loom))]
pub mod group;
#[cfg(not(loom))]
pub mod group_config;
#[cfg(not(loom))]
pub mod health;
#[cfg(not(loom))]
pub mod lease;
#[cfg(not(loom))]
pub mod limiter;
#[cfg(not(loom))]
pub mod load_balancer;
#[cfg(not(loom))]
pub mod no_lease;
#[cfg(not(loom))]
mod probe;
#[cfg(not(loom))]
pub mod probe_kind;
#[cfg(not(loom))]
mod probe_permits;
#[cfg(not(loom))]
pub mod relay;
#[cfg(not(loom))]
mod tcp;

pub use counter::{Claim, Counter};
pub use limit::{ClientLimits, Limit, Rate, SharedName};

#[cfg(not(loom))]
pub use {
    cause::{Excerpt, FailureCause},
    client_slots::{ClientSlot, QueuedSlot, SlotOutcome},
    config_error::{ConfigError, ConfigFault},
    dial::{DialError, DialReport, Dialed, dial},
    drain::{Drain, DrainGuard, Drained},
    group::{UpstreamGroup, UpstreamStatus},
    group_config::{
        DialConfig, GroupConfig, HealthConfig, OnDown, RelayConfig, UpstreamConfig, UpstreamState,
        WhenAllDown,
    },
    health::UpstreamHealth,
    lease::Lease,
    limiter::{ClientDenied, Limiter},
    load_balancer::{
        BalancerChange, LoadBalancer, LoadBalancerConfig, ProbeStartError, StreamEnd,
        StreamOutcome, StreamRejection,
    },
    no_lease::NoLease,
    peer::{BufferUse, Downstream, PooledBuffer, left},
    probe_kind::{Probe, ProbeKind},
    relay::{RelayEnd, RelayError, Traffic, relay},
};
