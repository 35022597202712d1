//! Ways to close a client's socket.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Time limit for a client that was refused to read the alert: 1 second.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are still read from a refused client, so that unread bytes do not turn the alert into
/// a reset: 256 KiB, a multiple of what a handshake may have.
const LINGER_BYTES: usize = 256 * 1024;

/// Makes the peer see a reset when the socket is closed.
pub fn reset(socket: &TcpStream) {
    // If the option cannot be set, the socket is closed already.
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).ok();
}

/// Closes a refused client's connection so that the alert arrives.
///
/// A socket closed with unread bytes sends a reset, which may overtake the alert. Therefore the
/// write side is shut down first, and at most 256 KiB are read for at most one second.
pub async fn linger(mut socket: TcpStream) {
    let deadline = Instant::now() + LINGER;
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    let mut buffer = [0; 1024];
    while left > 0 {
        match timeout_at(deadline, socket.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => left = left.saturating_sub(read),
            Ok(_) | Err(_) => return,
        }
    }
}
