//! Relay of bytes in both directions: a half-close is kept, every byte is counted, and a truncated
//! stream never looks complete.
//!
//! The module `ends` has the rules for the ends of both sides.

mod clock;
mod course;
mod pump;
mod watch;

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use peer::Downstream;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    ends::{self, SideState},
    group_config::RelayConfig,
    lease::Lease,
    tcp,
};
use clock::RelayClock;
use course::RelayCourse;

/// Numbers of bytes that a connection has moved, counted as they are written.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Makes counters at zero.
    pub const fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Returns the number of bytes that were written to the client.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Returns the number of bytes of the client that were written to the upstream.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// Orderly end of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayEnd {
    /// Both sides ended their streams, and each was notified of the other's end.
    Both,
    /// The client ended its stream, of which the upstream was notified, and was gone before the
    /// upstream ended its own.
    ClientLeft,
}

/// Error of a relay that broke off.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The client's connection failed.
    #[error("the client's connection failed")]
    Downstream(#[source] io::Error),
    /// The upstream's connection failed.
    #[error("the upstream's connection failed")]
    Upstream(#[source] io::Error),
    /// Both directions were silent for longer than [`RelayConfig::idle`].
    #[error("the connection was idle for too long")]
    Idle,
    /// One side had ended, and the connection was silent for too long: see
    /// [`RelayConfig::half_closed`].
    #[error("the connection was half-closed and silent for too long")]
    HalfClosed,
    /// Bytes waited for the client, and it took none for longer than [`RelayConfig::stall`].
    #[error("the client did not read for too long")]
    ClientStalled,
    /// Bytes waited for the upstream, and it took none for longer than [`RelayConfig::stall`].
    #[error("the upstream did not read for too long")]
    UpstreamStalled,
    /// The connection reached the end of its [lifetime](RelayConfig::lifetime).
    #[error("the connection reached the end of its lifetime")]
    Lifetime,
    /// The upstream went down, and its group is configured to cut its connections then.
    #[error("the upstream went down")]
    UpstreamDown,
}

/// Relays until both sides have ended their streams.
///
/// The end of one side is passed on, and the other direction goes on. If a side breaks off,
/// everything that was taken in from it before is delivered; then the other side sees a reset. Any
/// other end of the relay aborts both sides at once, so that neither takes a truncated stream for a
/// complete one: a time limit, a panic, and dropping the future half way, which is how a connection
/// is cut off. A silent connection holds no buffer.
pub async fn relay<D: Downstream>(
    downstream: &mut D,
    upstream: &mut TcpStream,
    config: &RelayConfig,
    traffic: &Traffic,
) -> Result<RelayEnd, RelayError> {
    // The same is done for an upstream that was dialed here.
    drop(upstream.set_zero_linger());
    run(downstream, upstream, config, traffic, None).await
}

/// Relays over a leased upstream, and reports to its group whether the upstream serves.
pub(crate) async fn relay_leased<D: Downstream>(
    downstream: &mut D,
    (upstream, lease, dialed): (&mut TcpStream, &Lease, Instant),
    config: &RelayConfig,
    traffic: &Traffic,
) -> Result<RelayEnd, RelayError> {
    run(downstream, upstream, config, traffic, Some((lease, dialed))).await
}

async fn run<D: Downstream>(
    downstream: &mut D,
    upstream: &mut TcpStream,
    config: &RelayConfig,
    traffic: &Traffic,
    leased: Option<(&Lease, Instant)>,
) -> Result<RelayEnd, RelayError> {
    let now = Instant::now();
    let rule = ends::rule(SideState::default(), SideState::default());
    let mut clock = RelayClock::new(config, rule, now, fastrand::f64());
    if let Some((_, dialed)) = leased {
        clock.await_proof(dialed);
    }
    let sides = SidesGuard {
        downstream,
        upstream,
        finished: None,
    };
    let lease = leased.map(|(lease, _)| lease);
    let mut course = RelayCourse::new(sides, config.keepalive, traffic, lease);
    let mut alarm = pin!(sleep_until(clock.next()));
    std::future::poll_fn(|cx| course.poll(cx, &mut clock, alarm.as_mut())).await
}

/// Both ends of a connection, aborted on drop unless the relay finished.
struct SidesGuard<'a, D: Downstream> {
    downstream: &'a mut D,
    upstream: &'a mut TcpStream,
    finished: Option<RelayEnd>,
}

impl<D: Downstream> Drop for SidesGuard<'_, D> {
    fn drop(&mut self) {
        match self.finished {
            Some(RelayEnd::Both) => tcp::end_in_order(self.upstream),
            Some(RelayEnd::ClientLeft) => {
                self.downstream.abort();
                tcp::end_in_order(self.upstream);
            }
            // The upstream's socket resets by itself unless it was set to end in order.
            None => self.downstream.abort(),
        }
    }
}

#[cfg(test)]
mod tests;
