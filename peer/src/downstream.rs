//! Stream from a client.

use std::os::fd::{AsFd, BorrowedFd};
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream from a client.
///
/// An end of the client's stream that its protocol did not announce is an error of the kind
/// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof): the client may still listen.
///
/// A protocol around the socket wraps it, and names the socket below:
///
/// ```
/// use std::{io, os::fd::{AsFd, BorrowedFd}, pin::Pin, task::{Context, Poll}};
///
/// use peer::Downstream;
/// use tokio::{io::{AsyncRead, AsyncWrite, ReadBuf}, net::TcpStream};
///
/// struct Framed(TcpStream);
///
/// impl AsyncRead for Framed {
///     fn poll_read(
///         mut self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         room: &mut ReadBuf<'_>,
///     ) -> Poll<io::Result<()>> {
///         // Here the frames would be taken off.
///         Pin::new(&mut self.0).poll_read(cx, room)
///     }
/// }
///
/// impl AsyncWrite for Framed {
///     fn poll_write(
///         mut self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///         bytes: &[u8],
///     ) -> Poll<io::Result<usize>> {
///         Pin::new(&mut self.0).poll_write(cx, bytes)
///     }
///
///     fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Pin::new(&mut self.0).poll_flush(cx)
///     }
///
///     fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
///         Pin::new(&mut self.0).poll_shutdown(cx)
///     }
/// }
///
/// impl Downstream for Framed {
///     fn abort(&mut self) {
///         self.0.abort();
///     }
///
///     fn socket(&self) -> Option<BorrowedFd<'_>> {
///         Some(self.0.as_fd())
///     }
/// }
/// ```
pub trait Downstream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends the connection so that the peer sees a reset, never an orderly end.
    ///
    /// The reset may be sent only when the stream is dropped.
    fn abort(&mut self);

    /// Returns the TCP socket below, if there is one.
    ///
    /// Without it there is no way to see whether a client that ended its stream still listens, and
    /// whether it has taken what was sent: only time limits apply.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Sends something that has no effect on a client that listens, and that a client which has
    /// closed its socket answers with a reset.
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
