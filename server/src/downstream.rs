//! The client's side of a relay: a TLS stream that can be broken off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's stream after its handshake.
#[derive(Debug)]
pub struct TlsClient(TlsStream<TcpStream>);

impl TlsClient {
    /// Takes the stream over.
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        Self(stream)
    }
}

impl lb::Downstream for TlsClient {
    /// Neither a `close_notify` nor a FIN follows, so that the client cannot take what it has for
    /// the whole (RFC 8446 6.1).
    fn abort(&mut self) {
        reset(self.0.get_ref().0);
    }
}

/// Has the socket's end seen as a reset by its peer.
pub fn reset(socket: &TcpStream) {
    // A socket that cannot be told so is closed already.
    SockRef::from(socket)
        .set_linger(Some(std::time::Duration::ZERO))
        .ok();
}

impl AsyncRead for TlsClient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsClient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
