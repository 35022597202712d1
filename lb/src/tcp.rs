//! Kernel state and socket options of TCP connections.
//!
//! Everything here is best effort: a socket whose option cannot be set is dead already, and what
//! cannot be found out is `None`.
#![expect(clippy::disallowed_types, reason = "it is about sockets")]

mod sock_diag;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

pub(crate) use sock_diag::queued;

/// Number of keepalive probes that the kernel sends within one keepalive period.
const KEEPALIVE_PROBES: u32 = 3;

/// Longest keepalive period that the kernel takes (`MAX_TCP_KEEPIDLE`).
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// Most bytes not yet sent that the kernel may hold for a peer that takes less than it is given.
const MOST_UNSENT: u32 = 128 * 1024;

/// Most bytes that the kernel may hold of an upstream that sends faster than its client takes. The
/// kernel doubles it for its own bookkeeping, and does not exceed `net.core.rmem_max`.
const MOST_UNREAD: usize = 512 * 1024;

/// Connects with a socket that sends a reset when it is closed, even if this process is killed.
/// [`end_in_order`] undoes that.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    // Readiness shows a failure: a connection that was made is not asked for its error.
    if stream.ready(Interest::WRITABLE).await?.is_write_closed()
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    stream.set_nodelay(true)?;
    stream.set_zero_linger()?;
    Ok(stream)
}

/// Makes a connection end in order when it is dropped: what was sent arrives, and then its end.
pub(crate) fn end_in_order(stream: &TcpStream) {
    drop(SockRef::from(stream).set_linger(None));
}

/// Makes the kernel probe a peer that is silent for `period`, and end the connection when the same
/// time has passed again without an answer. Periods are clamped to 1 s to 32767 s.
pub(crate) fn keep_alive(socket: BorrowedFd<'_>, period: Duration) {
    let period = period.clamp(Duration::from_secs(1), LONGEST_KEEPALIVE);
    let interval = (period / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(period)
        .with_interval(interval)
        .with_retries(KEEPALIVE_PROBES);
    drop(SockRef::from(&socket).set_tcp_keepalive(&keepalive));
}

/// Limits the bytes that the kernel holds for a peer that takes less than it is given.
pub(crate) fn bound_unsent(socket: BorrowedFd<'_>) {
    drop(SockRef::from(&socket).set_tcp_notsent_lowat(MOST_UNSENT));
}

/// Limits the bytes that the kernel holds of a peer that sends more than is taken from it.
pub(crate) fn bound_unread(socket: BorrowedFd<'_>) {
    drop(SockRef::from(&socket).set_recv_buffer_size(MOST_UNREAD));
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests wait")]
mod tests {
    use std::os::fd::AsFd;

    use peer::{PeerPresence, presence};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    async fn until(seen: impl Fn() -> bool) {
        let looks = async {
            while !seen() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(BOUND, looks).await.unwrap();
    }

    #[tokio::test]
    async fn it_is_known_how_much_a_peer_has_not_taken() {
        let (mut near, mut far) = pair().await;
        assert_eq!(queued(near.as_fd()), Some(0));
        let mut written = 0;
        while let Ok(Ok(more)) = timeout(Duration::from_millis(100), near.write(&[7; 16_384])).await
        {
            written += more;
        }
        let queue = queued(near.as_fd()).unwrap();
        assert!(queue > 0 && queue as usize <= written, "{queue}");
        let mut all = vec![0; written];
        timeout(BOUND, far.read_exact(&mut all))
            .await
            .unwrap()
            .unwrap();
        until(|| queued(near.as_fd()) == Some(0)).await;
        far.set_zero_linger().unwrap();
        drop(far);
        until(|| presence(near.as_fd()) == PeerPresence::Gone).await;
        assert_eq!(
            queued(near.as_fd()),
            Some(0),
            "nothing will arrive any more"
        );
    }

    #[tokio::test]
    async fn a_dropped_upstream_sees_a_reset_unless_it_ended_in_order() {
        let (near, mut far) = pair().await;
        drop(near);
        let reset = timeout(BOUND, far.read(&mut [0])).await.unwrap();
        assert_eq!(reset.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let (near, mut far) = pair().await;
        end_in_order(&near);
        drop(near);
        assert_eq!(
            timeout(BOUND, far.read(&mut [0])).await.unwrap().unwrap(),
            0
        );
    }

    #[tokio::test]
    async fn any_keepalive_is_taken() {
        let (near, _far) = pair().await;
        let times = [0, 1, 60, 36_000, 10_000_000].map(|seconds| {
            keep_alive(near.as_fd(), Duration::from_secs(seconds));
            SockRef::from(&near).tcp_keepalive_time().unwrap().as_secs()
        });
        assert_eq!(times, [1, 1, 60, 32_767, 32_767]);
        assert!(SockRef::from(&near).keepalive().unwrap());
        keep_alive(near.as_fd(), Duration::from_mins(1));
        let near = SockRef::from(&near);
        let (interval, probes) = (
            near.tcp_keepalive_interval().unwrap(),
            near.tcp_keepalive_retries().unwrap(),
        );
        assert_eq!(interval * probes, Duration::from_mins(1));
    }
}
