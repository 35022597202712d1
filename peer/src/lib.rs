//! One peer's connection, as the load balancer and the TLS side both see it.
//!
//! - [`Downstream`]: a stream from a client, which can be read, written and aborted.
//! - [`left`] and [`presence()`]: whether a client is still there, without reading what it sends.
//! - [`PooledBuffer`]: a buffer for bytes in flight, of the pool of its thread.
//! - [`Budget`](budget::Budget): how often a peer may cause an event in a time.
//! - [`RefusalSampler`](record_sampling::RefusalSampler): which records of refused clients are
//!   written.
//!
//! It knows no TLS, no upstreams and no policy.

#![forbid(unsafe_code)]

pub mod budget;
mod buffer;
mod downstream;
mod left;
mod presence;
pub mod record_sampling;

pub use buffer::{BufferUse, PooledBuffer};
pub use downstream::Downstream;
pub use left::left;
pub use presence::{PeerPresence, presence};
