//! Stream from a client.

use std::{
    os::fd::{AsFd, BorrowedFd},
    task::Context,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A stream from a client.
///
/// An end of the client's stream that its protocol did not announce is an error of the kind
/// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof): the client may still listen.
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
