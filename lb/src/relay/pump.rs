//! One direction of a relay.

use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use peer::{BufferUse, PooledBuffer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most buffers that a pump moves before other connections of its thread get a turn.
pub(super) const BUFFERS_A_TURN: u32 = 16;

/// A read needs at least this much room: a full TLS record and the beginning of another.
const READ_ROOM: usize = 32 * 1024;

/// Event of a pump.
#[derive(Debug)]
pub(super) enum PumpEvent {
    /// The reader's stream ended or broke. All that came before is written, and an orderly end was
    /// passed on.
    ReaderEnded(io::Result<()>),
    /// The writer takes no more. From now on, bytes that are read are dropped.
    WriterLost(io::Error),
}

/// Progress of a pump since it was last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PumpProgress {
    /// It has done nothing.
    #[default]
    Nothing,
    /// It has read, and written nothing yet.
    Read,
    /// It has written.
    Written,
}

/// One direction of a relay: the bytes in flight, and the state of its reader and its writer.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// Most bytes that are read into a buffer.
    most: usize,
    /// Bytes in flight, if any.
    pub(super) buffer: Option<PooledBuffer>,
    start: usize,
    end: usize,
    /// End of the reader's stream, to be passed on when everything before it is written.
    ending: Option<io::Result<()>>,
    unflushed: bool,
    done: bool,
    /// True if a write to the reader's side failed: the end of its stream then counts as a reset.
    is_reader_lost: bool,
    /// Number of bytes that were dropped, if the writer takes none.
    dropped: Option<u64>,
    moved: PumpProgress,
}

impl Pump {
    /// Makes a pump that moves at most `most` bytes at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Returns true if bytes wait for the writer.
    pub(super) fn is_waiting(&self) -> bool {
        self.buffer.is_some() || self.unflushed
    }

    /// Returns the progress since the last call.
    pub(super) fn take_moved(&mut self) -> PumpProgress {
        std::mem::take(&mut self.moved)
    }

    /// Returns the number of bytes that were dropped because the writer takes none.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.unwrap_or(0)
    }

    /// Drops the bytes in flight and all that follow.
    pub(super) fn discard(&mut self) {
        self.dropped.get_or_insert(0);
        self.unflushed = false;
        self.empty();
    }

    /// Makes every end of the reader's stream from now on count as a reset.
    ///
    /// The kernel reports a reset once. If a write received that error, a later read sees only the
    /// end of the stream.
    pub(super) fn lose_reader(&mut self) {
        self.is_reader_lost = true;
    }

    fn empty(&mut self) {
        (self.start, self.end) = (0, 0);
        self.buffer = None;
    }

    /// Moves the bytes that can be moved now. It is ready once for a lost writer and once for the
    /// reader's end, and never after that.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Poll<PumpEvent>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.done {
            return Poll::Pending;
        }
        for _ in 0..BUFFERS_A_TURN {
            let step = ready!(self.poll_step(cx, reader, writer, count));
            match step {
                Ok(None) => {}
                Ok(Some(ended)) => {
                    self.done = true;
                    return Poll::Ready(PumpEvent::ReaderEnded(ended));
                }
                Err(error) => {
                    self.discard();
                    return Poll::Ready(PumpEvent::WriterLost(error));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes the bytes in flight and reads more, or returns the end of the reader's stream. It
    /// fails if the writer does.
    fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        count: &AtomicU64,
    ) -> Poll<io::Result<Option<io::Result<()>>>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if let Some(dropped) = &mut self.dropped {
            *dropped += self.end as u64;
            self.empty();
        } else {
            ready!(self.poll_empty(cx, writer, count))?;
        }
        if self.ending.is_none() {
            ready!(self.poll_fill(cx, reader, writer))?;
            return Poll::Ready(Ok(None));
        }
        if self.dropped.is_none() {
            match self.ending {
                Some(Ok(())) => ready!(Pin::new(writer).poll_shutdown(cx))?,
                Some(Err(_)) | None => ready!(Pin::new(writer).poll_flush(cx))?,
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(self.ending.take()))
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
            self.moved = PumpProgress::Written;
            self.unflushed = true;
            count.fetch_add(written as u64, Relaxed);
        }
        self.empty();
        Poll::Ready(Ok(()))
    }

    /// Reads until the buffer is full or the reader has nothing more for now.
    ///
    /// If there is nothing to read, the buffer goes back to the pool, and what was written is
    /// flushed.
    fn poll_fill<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = PooledBuffer::take(BufferUse::Read);
        while self.ending.is_none() && self.most - self.end >= READ_ROOM {
            let mut room = ReadBuf::new(&mut buffer[self.end..self.most]);
            match Pin::new(&mut *reader).poll_read(cx, &mut room) {
                Poll::Pending if self.end == 0 => {
                    drop(buffer);
                    return self.poll_flush(cx, writer);
                }
                Poll::Pending => break,
                Poll::Ready(Err(error)) => self.ending = Some(Err(error)),
                Poll::Ready(Ok(())) if room.filled().is_empty() => {
                    let reset = || Err(io::ErrorKind::ConnectionReset.into());
                    self.ending = Some(if self.is_reader_lost { reset() } else { Ok(()) });
                }
                Poll::Ready(Ok(())) => self.end += room.filled().len(),
            }
        }
        if self.end > 0 {
            // Bytes that will be discarded do not keep a connection alive.
            if self.dropped.is_none() {
                self.moved = self.moved.max(PumpProgress::Read);
            }
            self.buffer = Some(buffer);
        }
        Poll::Ready(Ok(()))
    }

    /// Flushes what was written. Never ready unless it fails: the next step is the reader's.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}
