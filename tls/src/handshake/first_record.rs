//! First bytes of a connection, read before a TLS session is created for it.
//!
//! A client that is silent or slow costs a socket, a timer and the bytes that it has sent, but no
//! TLS session with its buffers.

use std::io;
use std::mem::MaybeUninit;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::failure::HandshakeFailure;
use crate::first_bytes::FirstBytes;
use crate::hello_limits::HelloReader;

/// Maximum number of bytes that are waited for before the handshake starts. It is larger
/// than a usual `ClientHello`, of which the key share of X25519MLKEM768 is the largest part.
const LOOKAHEAD: usize = 4096;

/// Reads a connection's first message, up to [`LOOKAHEAD`] bytes of it. If the connection ends
/// earlier, the bytes so far are returned, and the handshake reports the end.
///
/// # Errors
///
/// The deadline has passed, or the socket failed. Both errors name what the connection began with.
pub(super) async fn first_bytes(
    socket: &TcpStream,
    deadline: Instant,
) -> Result<Vec<u8>, HandshakeFailure> {
    let mut bytes = Vec::new();
    let begun = timeout_at(deadline, first_flight(socket, &mut bytes)).await;
    match begun {
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(_)) => Err(HandshakeFailure::Abandoned(FirstBytes::of(&bytes))),
        Err(_) => Err(HandshakeFailure::Late(FirstBytes::of(&bytes))),
    }
}

/// Reads until the client's first message is complete, or cannot become complete within
/// [`LOOKAHEAD`] bytes.
async fn first_flight(socket: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    loop {
        socket.ready(Interest::READABLE).await?;
        let mut has_ended = false;
        let read = socket.try_io(Interest::READABLE, || {
            let mut room = [MaybeUninit::uninit(); LOOKAHEAD];
            let room = &mut room[bytes.len()..];
            let size = room.len();
            let ((arrived, _), _) = recv(socket, room, RecvFlags::empty())?;
            has_ended = arrived.is_empty();
            bytes.reserve_exact(arrived.len());
            bytes.extend_from_slice(arrived);
            // The kernel has no more data: the socket need not be read again before it is readable.
            if arrived.len() < size && !has_ended {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match read {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if bytes.is_empty() || is_short(bytes) => {}
            _ => return Ok(()),
        }
    }
}

/// Returns true if the bytes are the beginning of an incomplete `ClientHello`, perhaps in several
/// records. Bytes that are not a `ClientHello`, or one that does not fit here, are checked later,
/// by the handshake.
fn is_short(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() < LOOKAHEAD && HelloReader::default().look(bytes) == Ok(false)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "each client has a deadline")]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// The content type of a handshake record (RFC 9846, 5.1).
    const HANDSHAKE: u8 = 22;
    /// The type of a `ClientHello` (RFC 9846, 4).
    const CLIENT_HELLO: u8 = 1;

    /// A `ClientHello` of so many bytes in records of at most so many.
    fn hello(length: u16, record: usize) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let message = [&[CLIENT_HELLO, 0, high, low][..], &vec![7; length.into()]].concat();
        let records = message.chunks(record).map(|fragment| {
            let [high, low] = u16::try_from(fragment.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1, high, low], fragment].concat()
        });
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_hello_is_waited_for_until_it_is_whole_however_it_is_cut() {
        for record in [1, 3, 4, 5, 100, 1000] {
            let whole = hello(300, record);
            assert!(!is_short(&whole), "{record}");
            for end in 1..whole.len() {
                assert!(is_short(&whole[..end]), "{record} {end}");
            }
        }
        let long = hello(60_000, 16_000);
        assert!(is_short(&long[..LOOKAHEAD - 1]));
        assert!(!is_short(&long[..LOOKAHEAD]), "the rest has no room here");
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        for bytes in [
            &b"GET"[..],
            &[21],
            &[HANDSHAKE, 3, 1, 0, 0],
            &[HANDSHAKE, 3, 1, 0, 9, 2],
            &[HANDSHAKE, 3, 1, 0, 1, CLIENT_HELLO, 23],
            &[],
        ] {
            assert!(!is_short(bytes), "{bytes:?}");
        }
    }

    /// A client's socket, and the gateway's.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// What a client begins with that sends these pieces one after another, and then ends or waits.
    async fn begun(
        pieces: &[&[u8]],
        ends: bool,
        patience: Duration,
    ) -> Result<Vec<u8>, HandshakeFailure> {
        let (mut client, socket) = connected().await;
        client.set_nodelay(true).unwrap();
        let sending = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            if ends {
                client.shutdown().await.unwrap();
            }
        };
        let deadline = Instant::now() + patience;
        let ((), begun) = tokio::join!(sending, first_bytes(&socket, deadline));
        begun
    }

    #[tokio::test]
    async fn a_hello_is_read_as_a_whole_with_nothing_lost_however_it_comes() {
        let patience = Duration::from_secs(20);
        let whole = hello(300, 100);
        for cut in 0..whole.len() {
            let (first, second) = whole.split_at(cut);
            let begun = begun(&[first, second], false, patience).await;
            assert_eq!(begun.unwrap(), whole, "{cut}");
        }
        let long = hello(60_000, 16_000);
        let begun = begun(&[&long], false, patience).await;
        assert_eq!(begun.unwrap(), &long[..LOOKAHEAD], "the rest is read later");
    }

    #[tokio::test]
    async fn a_client_that_ends_is_not_waited_for_and_one_that_is_slow_is_named() {
        let whole = hello(300, 100);
        let patience = Duration::from_secs(20);
        for sent in [0, 1, 100, whole.len()] {
            let begun = begun(&[&whole[..sent]], true, patience).await;
            assert_eq!(begun.unwrap(), &whole[..sent]);
        }
        for (sent, first) in [(0, FirstBytes::Nothing), (100, FirstBytes::Tls)] {
            let late = begun(&[&whole[..sent]], false, Duration::from_millis(50)).await;
            let Err(HandshakeFailure::Late(named)) = late else {
                panic!("{late:?}");
            };
            assert_eq!(named, first);
        }
    }
}
