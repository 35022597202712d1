//! Balances byte streams over upstreams: least connections, limits, health, relay, drain.
//!
//! The face is [`LoadBalancer`]: make it from a [`Config`], [`start`](LoadBalancer::start) it,
//! [`handle`](LoadBalancer::handle) streams, [`apply`](LoadBalancer::apply) changes, and
//! [`stop`](LoadBalancer::stop) it. It knows no TLS and reads no files; whoever embeds it hands it
//! any stream that can be read, written and [aborted](Downstream::abort).
//!
//! Deciding is apart from doing. `balancer`, `health`, `limiter` and `counter` decide: they hold no
//! socket, await nothing and are told the time. `probe`, `dial`, `relay` and `drain` do.
//!
//! Whatever is counted is counted by a guard: a [`Lease`] on an upstream, an [`Admission`] of a
//! client, a [`Claim`] on a [`Counter`], a [`Stay`] in a [`Drain`]. Dropping the guard returns the
//! count, so that a return, an error, a panic and a cancellation all come to the same.

#![forbid(unsafe_code)]

pub mod counter;
pub mod limit;

// Under loom tokio has no sockets, and only the counter is explored.
#[cfg(not(loom))]
mod balancer;
#[cfg(not(loom))]
mod buffer;
#[cfg(not(loom))]
pub mod cause;
#[cfg(not(loom))]
pub mod dial;
#[cfg(not(loom))]
pub mod drain;
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
mod permits;
#[cfg(not(loom))]
pub mod probe;
#[cfg(not(loom))]
pub mod relay;

pub use counter::{Claim, Counter};
pub use limit::{ClientLimits, Limit, Name, Rate};

#[cfg(not(loom))]
pub use {
    buffer::{Buffer, BufferUse},
    cause::{Cause, Excerpt},
    dial::{DialError, DialReport, Dialed, dial},
    drain::{Drain, Drained, Stay},
    group::{Group, UpstreamStatus},
    group_config::{
        DialConfig, GroupConfig, HealthConfig, RelayConfig, UpstreamConfig, UpstreamState,
        WhenAllDown,
    },
    health::Health,
    lease::{Lease, NoLease},
    limiter::{Admission, Denied, Limiter},
    load_balancer::{Change, Config, Ended, LoadBalancer, Outcome, Rejection},
    probe::{Check, Probe},
    relay::{Downstream, Finished, RelayError, Traffic, relay},
};
