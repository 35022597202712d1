//! Bytes both ways: half-close kept, every byte counted, and no truncation that looks complete.
//!
//! What an end of either side means stands in `ends`.

mod clock;
mod course;
mod pump;
mod watch;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::Context,
};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
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

/// A stream from a client.
///
/// An end of the client's stream that its protocol did not announce is an error of the kind
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): the client may still listen.
pub trait Downstream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends the connection so that the peer sees a reset, never a clean end.
    ///
    /// The reset may leave only when the stream is dropped.
    fn abort(&mut self);

    /// The TCP socket below, if there is one.
    ///
    /// Without it nobody can see whether a client that ended its stream still listens, and whether
    /// it has taken what was sent: only time limits apply.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Sends something that means nothing to a client that listens, and that a client which has
    /// closed its socket answers by a reset.
    fn nudge(&mut self, _: &mut Context<'_>) {}
}

impl Downstream for TcpStream {
    fn abort(&mut self) {
        // It fails only on a socket that is dead already.
        drop(self.set_zero_linger());
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// How many bytes a connection has moved, counted as they are written.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Nothing moved yet.
    pub const fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Bytes that went to the client.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Bytes that came from the client and went to the upstream.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// How a relay ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayEnd {
    /// Both sides ended their stream, and each was told of the other's end.
    Both,
    /// The client ended its stream, of which the upstream was told, and was gone before the upstream
    /// ended its own.
    ClientLeft,
}

/// How a relay broke off.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The client's connection failed.
    #[error("the client's connection failed")]
    Downstream(#[source] io::Error),
    /// The upstream's connection failed.
    #[error("the upstream's connection failed")]
    Upstream(#[source] io::Error),
    /// Both directions were silent for too long.
    #[error("the connection was idle for too long")]
    Idle,
    /// One side had ended, and the other direction was silent for too long.
    #[error("the connection was half-closed and silent for too long")]
    HalfClosed,
    /// Bytes waited for the client, and it took none for too long.
    #[error("the client took nothing for too long")]
    ClientStalled,
    /// Bytes waited for the upstream, and it took none for too long.
    #[error("the upstream took nothing for too long")]
    UpstreamStalled,
    /// The connection reached the end of its lifetime.
    #[error("the connection reached the end of its lifetime")]
    Lifetime,
    /// The upstream went down, and its group wants its connections cut then.
    #[error("the upstream went down")]
    UpstreamDown,
}

/// Relays until both sides have ended their streams.
///
/// The end of one side is passed on, and the other direction goes on. Of a side that broke off,
/// everything that was taken in before is delivered; then the other side sees a reset. Whatever ends
/// the relay otherwise aborts both sides at once, so that nobody takes a truncated stream for a
/// complete one: a time limit, a panic, and dropping the future half way, which is how a connection is
/// cut off. A silent connection holds no buffer.
pub async fn relay<D: Downstream>(
    downstream: &mut D,
    upstream: &mut TcpStream,
    config: &RelayConfig,
    traffic: &Traffic,
) -> Result<RelayEnd, RelayError> {
    // As it is done for an upstream that was dialed here.
    drop(upstream.set_zero_linger());
    run(downstream, upstream, config, traffic, None).await
}

/// Relays over a leased upstream, and observes how the upstream does.
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

/// Both ends of a connection, aborted on drop unless it finished.
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
            // The upstream's socket resets unless it is told otherwise.
            None => self.downstream.abort(),
        }
    }
}

#[cfg(test)]
mod tests;
