//! The messages of a handshake over a client's socket, by rustls without buffers of its own.

use std::io;
use std::sync::Arc;

use rustls::server::{Accepted, Acceptor, ClientHello, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{AlertDescription, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::first_bytes::FirstBytes;
use crate::hello_limits::{HelloExcess, HelloReader, MOST_PENDING_KIB};
use crate::record_layer::{self, HEADER};

/// Maximum size in bytes of the received part of a handshake that is not processed yet. rustls
/// allows messages of up to 64 KiB; a client's are a few KiB.
const MOST_PENDING: usize = MOST_PENDING_KIB * 1024;
/// Maximum number of bytes that one read of the socket returns.
const READ: usize = 4 * 1024;

/// Reason for the failure of a handshake.
#[derive(Debug, Error)]
pub(super) enum HandshakeError {
    /// The client closed or reset the connection.
    #[error("the client aborted the handshake")]
    Abandoned(#[source] io::Error),
    /// TLS reached no agreement. An alert was sent to the client.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The client exceeded a limit ([`HelloExcess`]). An alert was sent to the client.
    #[error(transparent)]
    Excess(#[from] HelloExcess),
}

/// Failure to receive a `ClientHello`.
#[derive(Debug)]
pub(super) struct NoHello {
    /// The error.
    pub(super) error: HandshakeError,
    /// Classification of the bytes that were received instead.
    pub(super) first: FirstBytes,
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Abandoned(error)
    }
}

/// A client's [`ClientHello`], and all the bytes that were received with it.
pub(super) struct ReceivedHello {
    accepted: Accepted,
    bytes: Vec<u8>,
}

/// Result of [`ReceivedHello::finish`].
pub(super) struct CompletedHandshake {
    /// The session, from which [`RecordLayer::after`](record_layer::RecordLayer::after) takes over.
    pub(super) session: UnbufferedServerConnection,
    /// Bytes received after the client's last handshake message.
    pub(super) early: Vec<u8>,
    /// Bytes that are not sent yet and can be sent with the first data: a session ticket.
    pub(super) late: Vec<u8>,
}

/// Reads a `ClientHello`, of which `bytes` were received already. A client that sends something
/// else gets an alert.
///
/// # Errors
///
/// [`NoHello`] with the error and the bytes that the client sent.
pub(super) async fn read_client_hello(
    socket: &mut TcpStream,
    mut bytes: Vec<u8>,
) -> Result<ReceivedHello, NoHello> {
    let mut alert = Vec::new();
    let error = match read_until_hello(socket, &mut bytes, &mut alert).await {
        Ok(accepted) => return Ok(ReceivedHello { accepted, bytes }),
        Err(error) => error,
    };
    let first = FirstBytes::of(&bytes);
    if let Some(description) = fitting(&error, first)
        && (alert.is_empty() || !first.is_tls())
    {
        alert = vec![21, 3, 3, 0, 2, 2, description.into()];
    }
    // The client may be gone already.
    socket.write_all(&alert).await.ok();
    Err(NoHello { error, first })
}

/// Reads into `bytes` until they are a `ClientHello`. rustls gets them when they are complete and
/// within the limits of [`HelloReader`]; if it rejects them, its alert is in `alert`.
async fn read_until_hello(
    socket: &mut TcpStream,
    bytes: &mut Vec<u8>,
    alert: &mut Vec<u8>,
) -> Result<Accepted, HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut reader = HelloReader::default();
    let mut shown = 0;
    loop {
        let is_the_parsers = reader.look(bytes)?;
        while is_the_parsers && shown < bytes.len() {
            // Bytes in memory can be read as long as rustls has room for them.
            let read = acceptor.read_tls(&mut &bytes[shown..]);
            shown += read.map_err(|_| HelloExcess::Pending)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err((error, mut said)) => {
                    said.write_all(alert)?;
                    return Err(error.into());
                }
            }
        }
        receive(socket, bytes).await?;
    }
}

/// Returns the alert for bytes that are not a `ClientHello` (RFC 9846, 5.1 and 6.2). For malformed
/// TLS, rustls has a more precise one.
fn fitting(error: &HandshakeError, first: FirstBytes) -> Option<AlertDescription> {
    match error {
        HandshakeError::Abandoned(_) => None,
        HandshakeError::Tls(_) | HandshakeError::Excess(_) if !first.is_tls() => {
            Some(AlertDescription::UnexpectedMessage)
        }
        HandshakeError::Excess(HelloExcess::Protocols) => Some(AlertDescription::IllegalParameter),
        HandshakeError::Excess(HelloExcess::Hello | HelloExcess::Pending)
        | HandshakeError::Tls(_) => Some(AlertDescription::DecodeError),
    }
}

impl ReceivedHello {
    /// Returns the parsed [`ClientHello`].
    pub(super) fn client_hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }

    /// Completes the handshake. Each flight is sent with one write. If the handshake fails, the
    /// client gets an alert.
    ///
    /// # Errors
    ///
    /// A [`HandshakeError`] if the client breaks off, breaks a rule of TLS, or is not accepted.
    pub(super) async fn finish(
        self,
        socket: &mut TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<CompletedHandshake, HandshakeError> {
        drop(self.accepted);
        let mut exchange = HandshakeExchange {
            session: UnbufferedServerConnection::new(config)?,
            bytes: self.bytes,
            shown: 0,
            flight: Vec::new(),
            hello: HelloReader::default(),
        };
        match exchange.complete(socket).await {
            Ok(()) => Ok(CompletedHandshake {
                session: exchange.session,
                early: exchange.bytes,
                late: exchange.flight,
            }),
            Err(error @ HandshakeError::Abandoned(_)) => Err(error),
            Err(error @ (HandshakeError::Tls(_) | HandshakeError::Excess(_))) => {
                exchange.alert()?;
                // The alert follows the messages that were not sent yet. The client may be gone
                // already.
                socket.write_all(&exchange.flight).await.ok();
                Err(error)
            }
        }
    }
}

/// A handshake after its first `ClientHello`.
struct HandshakeExchange {
    session: UnbufferedServerConnection,
    /// Received bytes that rustls has not consumed.
    bytes: Vec<u8>,
    /// Number of those bytes that rustls was given.
    shown: usize,
    /// Bytes to be sent.
    flight: Vec<u8>,
    /// Reader of a second hello, which may follow the first with another key share.
    hello: HelloReader,
}

impl HandshakeExchange {
    async fn complete(&mut self, socket: &mut TcpStream) -> Result<(), HandshakeError> {
        loop {
            match self.step()? {
                NextStep::Send if self.session.is_handshaking() => {
                    socket.write_all(&self.flight).await?;
                    self.flight.clear();
                }
                NextStep::Again | NextStep::Send => {}
                NextStep::Done => return Ok(()),
                NextStep::Wait => self.shown = self.one_more(socket).await?,
            }
        }
    }

    /// Gives rustls one record at a time, so that no record after the handshake is opened here.
    fn step(&mut self) -> Result<NextStep, HandshakeError> {
        let UnbufferedStatus { discard, state, .. } = self
            .session
            .process_tls_records(&mut self.bytes[..self.shown]);
        let next = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, &mut self.flight)?;
                Ok(NextStep::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(NextStep::Send)
            }
            Ok(ConnectionState::WriteTraffic(_)) => Ok(NextStep::Done),
            Ok(_) => Ok(NextStep::Wait),
            Err(error) => Err(error.into()),
        };
        self.bytes.drain(..discard);
        self.shown -= discard;
        next
    }

    /// Appends the alert of a failed handshake to the bytes to be sent.
    fn alert(&mut self) -> Result<(), HandshakeError> {
        if !self.session.wants_write() {
            // Only rustls can seal an alert now. It has none for some of its errors, and none for
            // bytes that it was not given. This makes it create one.
            self.bytes.truncate(self.shown);
            self.bytes.extend_from_slice(&TOO_LONG);
            self.shown = self.bytes.len();
            drop(self.step());
        }
        // Stop as soon as nothing is left to write: one more call would process the bytes again.
        while self.session.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) = self
                .session
                .process_tls_records(&mut self.bytes[..self.shown])
                .state
        {
            encode(data, &mut self.flight)?;
        }
        Ok(())
    }

    /// Waits until a whole record follows the first `shown` bytes. Returns its end.
    async fn one_more(&mut self, socket: &mut TcpStream) -> Result<usize, HandshakeError> {
        let end = loop {
            if let Some(end) = self.next_end() {
                break end;
            }
            receive(socket, &mut self.bytes).await?;
        };
        if let [HANDSHAKE, _, _, _, _, fragment @ ..] = &self.bytes[self.shown..end]
            && self.hello.fragment(fragment)?
        {
            self.hello = HelloReader::default();
        }
        Ok(end)
    }

    /// Returns the end of the record that follows the first `shown` bytes, if it is complete.
    fn next_end(&self) -> Option<usize> {
        let header = self.bytes.get(self.shown..self.shown + HEADER)?;
        let &[kind, _, _, high, low] = header else {
            return None;
        };
        let end = self.shown + HEADER + usize::from(u16::from_be_bytes([high, low]));
        // Bytes that are not a record are not waited for: rustls reports what is wrong with them.
        let is_none = !(20..=23).contains(&kind) || end - self.shown > record_layer::LONGEST;
        (end <= self.bytes.len() || is_none).then(|| end.min(self.bytes.len()))
    }
}

/// The action that must follow a step of the handshake.
enum NextStep {
    Again,
    Send,
    Wait,
    Done,
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

/// Content type of a handshake record (RFC 9846, 5.1).
const HANDSHAKE: u8 = 22;
/// Header of a record that is longer than TLS allows.
const TOO_LONG: [u8; HEADER] = [23, 3, 3, 0xff, 0xff];

/// Reads the available bytes, at least one.
async fn receive(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let room = MOST_PENDING.saturating_sub(bytes.len()).min(READ);
    if room == 0 {
        return Err(HelloExcess::Pending.into());
    }
    bytes.reserve(room);
    match socket.take(room as u64).read_buf(bytes).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
