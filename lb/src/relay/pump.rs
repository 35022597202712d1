//! One direction of a relay.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::{BufferUse, PooledBuffer};

/// How many buffers a pump moves before it lets other connections of its thread have a turn.
pub(super) const BUFFERS_A_TURN: u32 = 16;

/// A read needs at least this much room: a full TLS record and the beginning of another.
const READ_ROOM: usize = 32 * 1024;

/// What a pump has come to.
#[derive(Debug)]
pub(super) enum PumpEvent {
    /// The reader's stream ended or broke. All that came before is written, and an orderly end was
    /// passed on.
    ReaderEnded(io::Result<()>),
    /// The writer takes no more. From now on what is read is dropped.
    WriterLost(io::Error),
}

/// What a pump has done since somebody last asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum PumpProgress {
    /// Nothing.
    #[default]
    Nothing,
    /// It has read, and written nothing yet.
    Read,
    /// It has written.
    Written,
}

/// One direction: what is in flight, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// How much of a buffer is filled.
    most: usize,
    /// Bytes in flight, if any.
    pub(super) buffer: Option<PooledBuffer>,
    start: usize,
    end: usize,
    /// What the reader said last, to be passed on when everything before it is written.
    ending: Option<io::Result<()>>,
    unflushed: bool,
    done: bool,
    /// Whether an end of the reader is none: writing to it failed.
    is_reader_lost: bool,
    /// How many bytes were dropped, if the writer takes none.
    dropped: Option<u64>,
    moved: PumpProgress,
}

impl Pump {
    /// A pump that moves so many bytes at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Whether bytes wait for the writer.
    pub(super) fn is_waiting(&self) -> bool {
        self.buffer.is_some() || self.unflushed
    }

    /// What has moved since this was last asked.
    pub(super) fn take_moved(&mut self) -> PumpProgress {
        std::mem::take(&mut self.moved)
    }

    /// How many bytes were dropped since the writer takes none.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.unwrap_or(0)
    }

    /// Drops what is in flight and all that follows.
    pub(super) fn discard(&mut self) {
        self.dropped.get_or_insert(0);
        self.unflushed = false;
        self.empty();
    }

    /// Takes every end of the reader from now on for a reset.
    ///
    /// The kernel tells a reset once. If a write was told, a read is told an end.
    pub(super) fn lose_reader(&mut self) {
        self.is_reader_lost = true;
    }

    fn empty(&mut self) {
        (self.start, self.end) = (0, 0);
        self.buffer = None;
    }

    /// Moves what can be moved now. It is ready once for a lost writer and once for the reader's
    /// end, and never after that.
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

    /// Writes what is in flight and reads more, or says how the reader ended. It fails with the writer.
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
    /// When there is nothing at all, the buffer goes back, and what was written is flushed.
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
            // Bytes that are to be dropped keep no connection alive.
            if self.dropped.is_none() {
                self.moved = self.moved.max(PumpProgress::Read);
            }
            self.buffer = Some(buffer);
        }
        Poll::Ready(Ok(()))
    }

    /// Never ready unless it fails: there is nothing to do but wait for the reader.
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
