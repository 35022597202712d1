//! Buffers between a socket and the record layer, and all input and output of sealed records.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use peer::{BufferUse, PooledBuffer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::record_layer::{LONGEST, RecordError, RecordLayer, length};

/// Bytes that were received from the socket and are not read yet.
///
/// Records are opened in the reader's own buffer if that is large enough for them. An incomplete
/// record is kept in as much memory as it has bytes.
#[derive(Debug, Default)]
pub(super) struct IncomingRecords {
    /// Records that are not opened yet, or an incomplete one.
    unopened: Box<[u8]>,
    /// Data that did not fit into the reader's buffer.
    overflow: Option<(PooledBuffer, Range<usize>)>,
    end: Option<Result<(), RecordError>>,
}

impl IncomingRecords {
    /// Begins with bytes that were received already, which must fit into a [`PooledBuffer`].
    pub(super) fn new(early: &[u8]) -> Self {
        Self {
            unopened: early.into(),
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> &[u8] {
        &self.unopened
    }

    #[cfg(test)]
    pub(super) fn has_buffer(&self) -> bool {
        self.overflow.is_some()
    }

    /// Returns true if the peer has ended its stream in order, and all data before that was read.
    pub(super) fn has_ended(&self) -> bool {
        self.end == Some(Ok(())) && self.overflow.is_none()
    }

    /// Reads data into `room`. Nothing is written to it at the peer's orderly end.
    ///
    /// # Errors
    ///
    /// The inner result is a violation of the protocol by the peer; the outer one is an error of
    /// the socket, or its end without a `close_notify`.
    pub(super) fn poll_data(
        &mut self,
        session: &mut RecordLayer,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Result<(), RecordError>>> {
        loop {
            if let Some((spare, data)) = &mut self.overflow {
                let fitting = data.len().min(room.remaining());
                room.put_slice(&spare[data.start..][..fitting]);
                data.start += fitting;
                if data.start == data.end {
                    self.overflow = None;
                }
                return Poll::Ready(Ok(Ok(())));
            }
            if let Some(end) = self.end {
                return Poll::Ready(Ok(end));
            }
            if room.remaining() >= LONGEST.max(self.unopened.len() + 1) {
                let data = ready!(self.poll_open(session, socket, cx, room.initialize_unfilled()))?;
                room.advance(data);
                if data > 0 {
                    return Poll::Ready(Ok(Ok(())));
                }
            } else {
                let mut spare = PooledBuffer::take(BufferUse::Read);
                let data = ready!(self.poll_open(session, socket, cx, &mut spare))?;
                self.overflow = (data > 0).then_some((spare, 0..data));
            }
        }
    }

    /// Opens the kept bytes, or else bytes from the socket, in `space`. Returns the number of bytes
    /// of data, which may be 0.
    fn poll_open(
        &mut self,
        session: &mut RecordLayer,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let kept = self.unopened.len();
        space[..kept].copy_from_slice(&self.unopened);
        let mut filled = kept;
        if matches!(length(&self.unopened), Ok(next) if next.is_none_or(|length| length > kept)) {
            let mut room = ReadBuf::new(&mut space[kept..]);
            ready!(Pin::new(socket).poll_read(cx, &mut room))?;
            if room.filled().is_empty() {
                // An attacker on the path can cause an end that the peer did not seal (RFC 9846,
                // 6.1).
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            filled += room.filled().len();
        }
        let opened = session.open(&mut space[..filled], Instant::now);
        // Bytes after the end are ignored.
        self.unopened = match opened.end {
            None => space[opened.rest].into(),
            Some(_) => Box::default(),
        };
        self.end = opened.end;
        Poll::Ready(Ok(opened.data))
    }
}

/// Sealed records that the socket has not accepted yet.
#[derive(Debug, Default)]
pub(super) struct OutgoingRecords {
    /// Bytes that are sent before the first sealed record.
    prefix: Box<[u8]>,
    buffer: Option<PooledBuffer>,
    left: Range<usize>,
}

impl OutgoingRecords {
    /// Creates an empty buffer. `ahead` is sent before the first sealed record, and is short.
    pub(super) fn new(ahead: &[u8]) -> Self {
        Self {
            prefix: ahead.into(),
            ..Self::default()
        }
    }

    /// Calls `seal` to fill a buffer. The previous one must have been sent.
    pub(super) fn fill<T>(
        &mut self,
        seal: impl FnOnce(&mut [u8]) -> Result<(T, usize), rustls::Error>,
    ) -> io::Result<T> {
        debug_assert!(self.left.is_empty(), "sealed over what was not sent");
        let mut buffer = PooledBuffer::take(BufferUse::Framed);
        let ahead = std::mem::take(&mut self.prefix);
        let (first, room) = buffer.split_at_mut(ahead.len());
        first.copy_from_slice(&ahead);
        let (result, written) = seal(room).map_err(io::Error::other)?;
        self.buffer = Some(buffer);
        self.left = 0..ahead.len() + written;
        Ok(result)
    }

    /// Returns true if the socket has accepted everything.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Writes everything that is left to the socket.
    pub(super) fn poll_send(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(buffer) = &self.buffer {
            let sent = ready!(Pin::new(&mut *socket).poll_write(cx, &buffer[self.left.clone()]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left.start += sent;
            if self.left.is_empty() {
                self.buffer = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_layer::{HEADER, OVERHEAD};

    /// Maximum plaintext of a record in bytes (RFC 9846, 5.1).
    const MAX_PLAINTEXT: usize = 1 << 14;

    /// The longest that goes ahead of the first data: a ticket.
    const LONGEST_TICKET: usize = 1024;

    #[test]
    fn no_record_is_sealed_just_behind_the_page_offset_of_its_data() {
        let plain = PooledBuffer::take(BufferUse::Read);
        for ahead in 0..=LONGEST_TICKET {
            let mut outgoing = OutgoingRecords::new(&vec![0; ahead]);
            let checked = outgoing.fill(|room| {
                for record in 0..4 {
                    let from = plain[record * MAX_PLAINTEXT..].as_ptr().addr();
                    let to = room[record * (MAX_PLAINTEXT + OVERHEAD) + HEADER..].as_ptr();
                    let behind = to.addr().wrapping_sub(from) % 4096;
                    assert!(
                        behind >= 64,
                        "record {record} behind {ahead} bytes: {behind}"
                    );
                }
                Ok(((), 0))
            });
            checked.unwrap();
        }
    }
}
