//! A client's socket that can split and change the bytes that are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Treatment of the bytes that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Each byte is sent in a segment of its own.
    ByteByByte,
    /// The `ClientHello` is sent in records of a few bytes each (RFC 9846 5.1).
    SplitRecords,
    /// The last byte of each write is changed.
    Tampered,
    /// The bytes are sent unchanged.
    Straight,
}

/// Socket that treats the bytes sent as its [`Wire`] says.
#[derive(Debug)]
pub(crate) struct Cutting {
    socket: TcpStream,
    pub(crate) wire: Wire,
    out: Vec<u8>,
    sent: usize,
    /// Number of bytes received.
    pub(crate) heard: usize,
}

impl Cutting {
    pub(crate) fn new(socket: TcpStream, wire: Wire) -> Self {
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            wire,
            out: Vec::new(),
            sent: 0,
            heard: 0,
        }
    }

    /// Makes the socket reset the connection when it is dropped.
    pub(crate) fn reset(&self) {
        self.socket.set_zero_linger().unwrap();
    }

    fn prepare(&mut self, bytes: &[u8]) {
        self.out = bytes.to_vec();
        self.sent = 0;
        match self.wire {
            Wire::SplitRecords if bytes[0] == 0x16 => {
                self.out.clear();
                let mut records = bytes;
                while let [kind, major, minor, high, low, rest @ ..] = records {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let (content, next) = rest.split_at(length);
                    for part in content.chunks(7) {
                        let short = u8::try_from(part.len()).unwrap();
                        self.out.extend([*kind, *major, *minor, 0, short]);
                        self.out.extend(part);
                    }
                    records = next;
                }
                // Only the first flight is not encrypted and can be split into other records.
                self.wire = Wire::Straight;
            }
            Wire::Tampered => *self.out.last_mut().unwrap() ^= 1,
            Wire::SplitRecords | Wire::ByteByByte | Wire::Straight => {}
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let end = match self.wire {
                Wire::ByteByByte => self.sent + 1,
                Wire::SplitRecords | Wire::Tampered | Wire::Straight => self.out.len(),
            };
            let bytes = &self.out[self.sent..end];
            self.sent += ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Cutting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.heard += buffer.filled().len() - before;
        polled
    }
}

impl AsyncWrite for Cutting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Bytes accepted before are sent first; these may be sent later.
        ready!(self.poll_out(cx))?;
        self.prepare(bytes);
        match self.poll_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
