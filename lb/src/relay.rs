//! Relay of bytes in both directions: a half-close is kept, every byte is counted, and a truncated
//! stream never looks complete.
//!
//! The module `ends` has the rules for the ends of both sides.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it moves bytes between sockets, and wakes up at times"
)]

mod clock;
mod course;
mod end;
mod pump;
mod report;
mod sides;
mod traffic;
mod turn;
mod watch;

use std::pin::pin;

use peer::Downstream;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    ends::{self, SideState},
    group_config::RelayConfig,
    lease::Lease,
};
use clock::RelayClock;
use course::RelayCourse;
use sides::SidesGuard;

pub use {
    end::{RelayEnd, RelayError},
    traffic::Traffic,
};

/// Relays until both sides have ended their streams.
///
/// The end of one side is passed on, and the other direction goes on. If a side breaks off,
/// everything that was taken in from it before is delivered; then the other side sees a reset. Any
/// other end of the relay aborts both sides at once, so that neither takes a truncated stream for a
/// complete one: a time limit, a panic, and dropping the future half way, which is how a connection
/// is cut off. A silent connection holds no buffer.
///
/// # Errors
///
/// The [`RelayError`] that ended the relay before both streams were complete: a side broke off, or
/// a time limit passed.
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

#[cfg(test)]
mod tests;
