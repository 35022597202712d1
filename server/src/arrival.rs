//! What a connection begins with, looked at where the kernel keeps it.
//!
//! The bytes stay there until a `ClientHello` is whole, so that a client that is silent or slow costs a socket
//! and a timer, and no TLS session with its buffers.

use std::io;
use std::mem::MaybeUninit;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::first_bytes::{self, FirstBytes};
use crate::hello::HelloReader;
use crate::rejection::Rejection;

/// How much of a client's first records is waited for: more than a usual `ClientHello`, of which the
/// key share of X25519MLKEM768 is the largest part.
const LOOKAHEAD: usize = 4096;

/// Waits for a connection's first message, and names it.
pub(crate) async fn beginning(
    socket: &TcpStream,
    deadline: Instant,
) -> Result<FirstBytes, Rejection> {
    let begun = timeout_at(deadline, first_flight(socket)).await;
    let first = peek(socket);
    match begun {
        Ok(Ok(())) => Ok(first),
        Ok(Err(_)) => Err(Rejection::HandshakeAbandoned(first)),
        Err(_) => Err(Rejection::HandshakeTimeout(first)),
    }
}

/// Names what has come and was not read.
fn peek(socket: &TcpStream) -> FirstBytes {
    let mut bytes = [MaybeUninit::uninit(); first_bytes::ENOUGH];
    recv(socket, &mut bytes, RecvFlags::PEEK).map_or(FirstBytes::Nothing, |((arrived, _), _)| {
        FirstBytes::of(arrived)
    })
}

/// Waits until the client's first message is whole, or can no longer become so.
async fn first_flight(socket: &TcpStream) -> io::Result<()> {
    loop {
        let ready = socket.ready(Interest::READABLE).await?;
        if ready.is_read_closed() {
            return Ok(());
        }
        let look = socket.try_io(Interest::READABLE, || {
            let mut bytes = [MaybeUninit::uninit(); LOOKAHEAD];
            let ((arrived, _), _) = recv(socket, &mut bytes, RecvFlags::PEEK)?;
            if is_short(arrived) {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match look {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

/// Whether these are the beginning of a `ClientHello` that is not whole, perhaps in several records. What is none,
/// or does not fit here, is judged when it is read.
fn is_short(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() < LOOKAHEAD && HelloReader::default().look(bytes) == Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content type of a handshake record (RFC 8446, 5.1).
    const HANDSHAKE: u8 = 22;
    /// The type of a `ClientHello` (RFC 8446, 4).
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
}
