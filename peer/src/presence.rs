//! State of a peer, seen without reading.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// State of a peer as far as it can be seen without reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPresence {
    /// Its stream goes on.
    Sending,
    /// It has closed its write side: it may listen, or be gone.
    Ended,
    /// It has reset the connection, or does not answer any more.
    Gone,
}

/// Returns the state of a peer without reading.
///
/// ```
/// use std::{net::{TcpListener, TcpStream}, os::fd::AsFd};
///
/// use peer::{PeerPresence, presence};
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (stream, _) = listener.accept()?;
/// assert_eq!(presence(stream.as_fd()), PeerPresence::Sending);
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn presence(socket: BorrowedFd<'_>) -> PeerPresence {
    let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut answer = poll(&mut asked, Some(&at_once));
    while answer == Err(Errno::INTR) {
        answer = poll(&mut asked, Some(&at_once));
    }
    let seen = asked[0].revents();
    if seen.intersects(PollFlags::ERR | PollFlags::HUP) {
        PeerPresence::Gone
    } else if seen.contains(PollFlags::RDHUP) {
        PeerPresence::Ended
    } else {
        PeerPresence::Sending
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    async fn until(stream: &TcpStream, awaited: PeerPresence) {
        let looks = async {
            while presence(stream.as_fd()) != awaited {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(BOUND, looks).await.unwrap();
    }

    #[tokio::test]
    async fn a_peers_end_is_seen_without_reading_and_a_reset_behind_it_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut near = TcpStream::connect(address).await.unwrap();
        let mut far = listener.accept().await.unwrap().0;
        assert_eq!(presence(near.as_fd()), PeerPresence::Sending);
        far.write_all(b"unread").await.unwrap();
        far.shutdown().await.unwrap();
        until(&near, PeerPresence::Ended).await;
        drop(far);
        near.write_all(b"nobody listens").await.unwrap();
        until(&near, PeerPresence::Gone).await;
    }
}
