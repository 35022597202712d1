//! A client's handshake over its socket: rustls without buffers of its own.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Accepted, Acceptor, ClientHello, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::record_layer::{self, HEADER};

/// How much of a handshake may have come without having been understood. A message is at most 64 KiB long
/// for rustls; a client's are a few KiB.
const MOST_PENDING: usize = 64 * 1024;
/// How much is read at a time.
const READ: usize = 4 * 1024;

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    /// The client went away.
    #[error("the client broke the handshake off")]
    Abandoned(#[source] io::Error),
    /// TLS came to no agreement. The client was told so by an alert, unless it said more than is listened to.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Abandoned(error)
    }
}

/// A client's `ClientHello`, and all the bytes that came with it.
pub(crate) struct Hello {
    accepted: Accepted,
    bytes: Vec<u8>,
}

/// A handshake that is over.
pub(crate) struct Handshaken {
    pub(crate) session: UnbufferedServerConnection,
    /// What came behind the client's last message.
    pub(crate) early: Vec<u8>,
    /// What is still to be said, which may wait until there is something to say it with: a ticket.
    pub(crate) late: Vec<u8>,
}

/// Reads a `ClientHello`.
pub(crate) async fn hear(socket: &mut TcpStream) -> Result<Hello, HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    loop {
        let known = bytes.len();
        receive(socket, &mut bytes).await?;
        let mut new = &bytes[known..];
        while !new.is_empty() {
            // Bytes in memory can be read as long as rustls has room for them.
            acceptor.read_tls(&mut new).map_err(|_| too_large())?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Hello { accepted, bytes }),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut flight = Vec::new();
                    alert.write_all(&mut flight)?;
                    socket.write_all(&flight).await?;
                    return Err(error.into());
                }
            }
        }
    }
}

impl Hello {
    /// What the client asks for.
    pub(crate) fn client_hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }

    /// Goes through the rest of the handshake. Each flight is one write.
    pub(crate) async fn answer(
        self,
        socket: &mut TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<Handshaken, HandshakeError> {
        let mut bytes = self.bytes;
        drop(self.accepted);
        let mut session = UnbufferedServerConnection::new(config)?;
        let mut flight = Vec::new();
        let mut shown = 0;
        loop {
            // One record at a time, so that nothing behind the handshake is opened here.
            let UnbufferedStatus { discard, state, .. } =
                session.process_tls_records(&mut bytes[..shown]);
            let next = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut flight)?;
                    Next::Again
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Next::Send
                }
                Ok(ConnectionState::WriteTraffic(_)) => Next::Done,
                Ok(_) => Next::Wait,
                Err(error) => Next::Fail(error),
            };
            bytes.drain(..discard);
            shown -= discard;
            match next {
                Next::Send if session.is_handshaking() => {
                    socket.write_all(&flight).await?;
                    flight.clear();
                }
                Next::Again | Next::Send => {}
                Next::Done => {
                    return Ok(Handshaken {
                        session,
                        early: bytes,
                        late: flight,
                    });
                }
                Next::Fail(error) => {
                    // Not once more than that: rustls would look at the bytes again.
                    while session.wants_write()
                        && let Ok(ConnectionState::EncodeTlsData(data)) =
                            session.process_tls_records(&mut bytes[..shown]).state
                    {
                        encode(data, &mut flight)?;
                    }
                    // With the alert. The client may be gone already.
                    socket.write_all(&flight).await.ok();
                    return Err(error.into());
                }
                Next::Wait => shown = one_more(socket, &mut bytes, shown).await?,
            }
        }
    }
}

/// What a step of the handshake leads to.
enum Next {
    Again,
    Send,
    Wait,
    Done,
    Fail(rustls::Error),
}

fn encode<T>(mut data: EncodeTlsData<'_, T>, flight: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let start = flight.len();
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return Ok(());
    };
    flight.resize(start + size.required_size, 0);
    match data.encode(&mut flight[start..]) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::other(error).into()),
    }
}

/// Waits until there is a record behind the first `shown` bytes. Returns where it ends.
async fn one_more(
    socket: &mut TcpStream,
    bytes: &mut Vec<u8>,
    shown: usize,
) -> Result<usize, HandshakeError> {
    loop {
        if let Some(&[kind, _, _, high, low]) = bytes.get(shown..shown + HEADER) {
            let end = shown + HEADER + usize::from(u16::from_be_bytes([high, low]));
            // What is no record needs no end: rustls says what is wrong with it.
            let is_none = !(20..=23).contains(&kind) || end - shown > record_layer::LONGEST;
            if end <= bytes.len() || is_none {
                return Ok(end.min(bytes.len()));
            }
        }
        receive(socket, bytes).await?;
    }
}

fn too_large() -> rustls::Error {
    rustls::InvalidMessage::MessageTooLarge.into()
}

/// Reads what there is, and something at least.
async fn receive(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let room = MOST_PENDING.saturating_sub(bytes.len()).min(READ);
    if room == 0 {
        return Err(too_large().into());
    }
    bytes.reserve(room);
    match socket.take(room as u64).read_buf(bytes).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rustls::ClientConnection;
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use tokio::net::TcpListener;
    use tokio::time::{Duration, timeout};

    use super::*;
    use crate::record_layer::tests::{SERVER, client, name};

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        (connected.unwrap(), accepted.unwrap().0)
    }

    /// What a client gets to hear that sends this behind its hello.
    async fn answer_to(behind: &[u8]) -> Result<(), rustls::Error> {
        let (mut socket, mut server) = connected().await;
        let mut client = ClientConnection::new(client(TLS13_AES_128_GCM_SHA256), name()).unwrap();
        let mut flight = Vec::new();
        client.write_tls(&mut flight).unwrap();
        flight.extend_from_slice(behind);
        socket.write_all(&flight).await.unwrap();
        let hello = hear(&mut server).await.unwrap();
        let failed = hello.answer(&mut server, Arc::clone(&SERVER)).await;
        assert!(matches!(failed, Err(HandshakeError::Tls(_))));
        drop(server);
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok();
        client.read_tls(&mut &answer[..]).unwrap();
        client.process_new_packets().map(drop)
    }

    #[tokio::test]
    async fn a_hello_is_listened_to_for_so_long_only() {
        let (mut socket, mut server) = connected().await;
        // Of 60 KiB, as it says, in records of a byte each, of which so many are not taken.
        let hello = [1, 0, 0xf0, 0].into_iter().chain(std::iter::repeat(0));
        let records = hello.flat_map(|byte| [22, 3, 1, 0, 1, byte]);
        let flight: Vec<u8> = records.take(4 * MOST_PENDING).collect();
        let listen = async {
            let heard = timeout(Duration::from_secs(20), hear(&mut server)).await;
            drop(server);
            heard
        };
        let (_, heard) = tokio::join!(socket.write_all(&flight), listen);
        let Err(HandshakeError::Tls(error)) = heard.expect("it ends") else {
            panic!("it is no hello");
        };
        assert_eq!(error, too_large());
    }

    #[tokio::test]
    async fn whatever_follows_a_hello_is_answered_by_an_alert() {
        let sealed = [&[23, 3, 3, 0, 53][..], &[7; 53]].concat();
        for behind in [
            &sealed[..],
            &[&sealed[..], &sealed].concat(),
            &[&[20, 3, 3, 0, 1, 1][..], &sealed, &[1, 2, 3]].concat(),
            &[23, 3, 3, 0xff, 0xff, 1],
            &[22, 3, 3, 0, 4, 1, 0, 0, 0],
            b"GET / HTTP/1.0\r\n\r\n",
            &[0; 100],
        ] {
            let told = timeout(Duration::from_secs(20), answer_to(behind)).await;
            let told = told.unwrap_or_else(|_| panic!("it waits behind {behind:?}"));
            assert!(
                matches!(told, Err(rustls::Error::AlertReceived(_))),
                "{told:?} {behind:?}"
            );
        }
    }
}
