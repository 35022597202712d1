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
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::ends::{self, SideState};
use crate::group_config::RelayConfig;
use crate::lease::Lease;
use clock::RelayClock;
use course::RelayCourse;
use sides::SidesGuard;

pub use end::{RelayEnd, RelayError};
pub use traffic::Traffic;

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
///
/// ```
/// use lb::{RelayConfig, RelayEnd, Traffic, relay};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ours = TcpListener::bind("127.0.0.1:0").await?;
/// # let theirs = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(ours.local_addr()?).await?;
/// let (mut downstream, _) = ours.accept().await?;
/// let mut upstream = TcpStream::connect(theirs.local_addr()?).await?;
/// let (mut server, _) = theirs.accept().await?;
///
/// let traffic = Traffic::new();
/// let config = RelayConfig::default();
/// let talk = async {
///     client.write_all(b"question").await?;
///     client.shutdown().await?;
///     let mut heard = String::new();
///     server.read_to_string(&mut heard).await?;
///     server.write_all(b"answer").await?;
///     drop(server);
///     client.read_to_string(&mut heard).await?;
///     Ok::<_, std::io::Error>(heard)
/// };
/// let relayed = relay(&mut downstream, &mut upstream, &config, &traffic);
/// let (relayed, heard) = tokio::join!(relayed, talk);
/// assert_eq!((relayed?, heard?.as_str()), (RelayEnd::Both, "questionanswer"));
/// assert_eq!((traffic.received(), traffic.sent()), (8, 6));
/// # Ok(())
/// # }
/// ```
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
