//! Bytes both ways: half-close kept, every byte counted, and no truncation that looks complete.

use std::{
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    buffer::{Buffer, BufferUse},
    group_config::RelayConfig,
};

/// How many buffers a pump moves before it lets other connections of its thread have a turn.
const BUFFERS_A_TURN: u32 = 16;

/// How much is moved at once from a client: eight full TLS records, which are opened where they are read.
const FROM_CLIENT: usize = 128 * 1024;

/// How much is moved at once to a client: four full records. They are sealed from one buffer into another,
/// and both are to stay in a processor's cache.
const TO_CLIENT: usize = 64 * 1024;

/// A read needs at least this much room: a full TLS record and the beginning of another.
const READ_ROOM: usize = 32 * 1024;

/// What stands for "never": long past the life of any process.
const NEVER: Duration = Duration::from_hours(24 * 365 * 10);

/// A stream from a client.
pub trait Downstream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends the connection so that the peer sees a reset, never a clean end.
    ///
    /// The reset may leave only when the stream is dropped.
    fn abort(&mut self);
}

impl Downstream for TcpStream {
    fn abort(&mut self) {
        // It fails only on a socket that is dead already.
        drop(self.set_zero_linger());
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
pub enum Finished {
    /// Both sides ended their stream, and each was told of the other's end.
    Both,
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
    /// The connection reached the end of its lifetime.
    #[error("the connection reached the end of its lifetime")]
    Lifetime,
}

/// Relays until both sides have ended their streams.
///
/// The end of one side is passed on, and the other direction goes on. Whatever ends the relay
/// otherwise aborts both sides, so that nobody takes a truncated stream for a complete one:
/// failure, idleness, the end of the lifetime, a panic, and dropping the future half way, which is
/// how a connection is cut off. A silent connection holds no buffer.
pub async fn relay<D: Downstream>(
    downstream: &mut D,
    upstream: &mut TcpStream,
    config: &RelayConfig,
    traffic: &Traffic,
) -> Result<Finished, RelayError> {
    let mut sides = Sides {
        downstream,
        upstream,
        whole: false,
    };
    let mut up = Pump::new(FROM_CLIENT);
    let mut down = Pump::new(TO_CLIENT);
    let mut clock = Deadlines::new(config, Instant::now(), fastrand::f64());
    let mut alarm = pin!(sleep_until(clock.next()));
    std::future::poll_fn(|cx| {
        let upward = up
            .poll(cx, sides.downstream, sides.upstream, &traffic.received)
            .map_err(|fault| fault.blame(RelayError::Downstream, RelayError::Upstream))?;
        let downward = down
            .poll(cx, sides.upstream, sides.downstream, &traffic.sent)
            .map_err(|fault| fault.blame(RelayError::Upstream, RelayError::Downstream))?;
        if upward.is_ready() && downward.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved) {
            clock.moved(Instant::now());
        }
        while alarm.as_mut().poll(cx).is_ready() {
            let next = clock.ring(Instant::now())?;
            alarm.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await?;
    sides.whole = true;
    Ok(Finished::Both)
}

/// Both ends of a connection, aborted on drop unless it is whole.
struct Sides<'a, D: Downstream> {
    downstream: &'a mut D,
    upstream: &'a mut TcpStream,
    whole: bool,
}

impl<D: Downstream> Drop for Sides<'_, D> {
    fn drop(&mut self) {
        if !self.whole {
            self.downstream.abort();
            self.upstream.abort();
        }
    }
}

/// When a connection has been silent, or alive, for too long.
#[derive(Debug)]
struct Deadlines {
    idle: Option<Duration>,
    last_moved: Instant,
    end: Option<Instant>,
}

impl Deadlines {
    /// Chance, from 0 to 1, only shortens the lifetime: the configured one is never exceeded.
    fn new(config: &RelayConfig, now: Instant, chance: f64) -> Self {
        let share = 1.0 - config.lifetime_jitter.clamp(0.0, 1.0) * chance;
        let end = config
            .lifetime
            .and_then(|lifetime| now.checked_add(lifetime.mul_f64(share)));
        Self {
            idle: config.idle,
            last_moved: now,
            end,
        }
    }

    /// Only takes note; the alarm rings at the old time and is set anew then.
    fn moved(&mut self, now: Instant) {
        self.last_moved = now;
    }

    fn idle_end(&self) -> Option<Instant> {
        self.idle.and_then(|idle| self.last_moved.checked_add(idle))
    }

    fn next(&self) -> Instant {
        let never = self.last_moved + NEVER;
        self.idle_end()
            .unwrap_or(never)
            .min(self.end.unwrap_or(never))
            .min(never)
    }

    /// What it means that the alarm rang: too long, or when to ring next.
    fn ring(&self, now: Instant) -> Result<Instant, RelayError> {
        if self.end.is_some_and(|end| end <= now) {
            return Err(RelayError::Lifetime);
        }
        if self.idle_end().is_some_and(|end| end <= now) {
            return Err(RelayError::Idle);
        }
        Ok(self.next().max(now + Duration::from_millis(1)))
    }
}

/// Which side of a pump failed.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl Fault {
    fn blame(
        self,
        reader: impl FnOnce(io::Error) -> RelayError,
        writer: impl FnOnce(io::Error) -> RelayError,
    ) -> RelayError {
        match self {
            Self::Read(error) => reader(error),
            Self::Write(error) => writer(error),
        }
    }
}

/// One direction: what is in flight, and how far it is.
#[derive(Debug, Default)]
struct Pump {
    /// How much of a buffer is filled.
    most: usize,
    /// Bytes in flight, if any.
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    /// What the reader said last, to be passed on when everything before it is written.
    ending: Option<io::Result<()>>,
    unflushed: bool,
    done: bool,
    /// Whether a byte moved since somebody last asked.
    moved: bool,
}

impl Pump {
    fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Moves what can be moved now; ready when the reader's end was passed on to the writer.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..BUFFERS_A_TURN {
            ready!(self.poll_empty(cx, writer, count)).map_err(Fault::Write)?;
            match self.ending.take() {
                None => ready!(self.poll_fill(cx, reader, writer))?,
                Some(Err(error)) => return Poll::Ready(Err(Fault::Read(error))),
                Some(Ok(())) => {
                    self.ending = Some(Ok(()));
                    ready!(Pin::new(writer).poll_shutdown(cx)).map_err(Fault::Write)?;
                    self.done = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes everything that is in flight, and then gives the buffer back.
    fn poll_empty<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &self.buffer else {
            return Poll::Ready(Ok(()));
        };
        while self.start < self.end {
            let bytes = &buffer[self.start..self.end];
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += written;
            self.moved = true;
            self.unflushed = true;
            count.fetch_add(written as u64, Relaxed);
        }
        (self.start, self.end) = (0, 0);
        self.buffer = None;
        Poll::Ready(Ok(()))
    }

    /// Reads until the buffer is full or the reader has nothing more for now.
    ///
    /// When there is nothing at all, the buffer goes back, and what was written is flushed.
    fn poll_fill<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = Buffer::take(BufferUse::Read);
        while self.ending.is_none() && self.most - self.end >= READ_ROOM {
            let mut room = ReadBuf::new(&mut buffer[self.end..self.most]);
            match Pin::new(&mut *reader).poll_read(cx, &mut room) {
                Poll::Pending if self.end == 0 => {
                    drop(buffer);
                    return self.poll_flush(cx, writer);
                }
                Poll::Pending => break,
                Poll::Ready(Err(error)) => self.ending = Some(Err(error)),
                Poll::Ready(Ok(())) if room.filled().is_empty() => self.ending = Some(Ok(())),
                Poll::Ready(Ok(())) => self.end += room.filled().len(),
            }
        }
        if self.end > 0 {
            self.moved = true;
            self.buffer = Some(buffer);
        }
        Poll::Ready(Ok(()))
    }

    /// Never ready unless it fails: there is nothing to do but wait for the reader.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<Result<(), Fault>> {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx)).map_err(Fault::Write)?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
