//! The handshake of a client: from its accepted socket to its authorized stream.

use std::fmt;
use std::sync::Arc;

use rustls::server::ClientHello;
use rustls::{AlertDescription, HandshakeKind, ServerConfig};
use rustls_pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::client_stream::ClientStream;
use crate::first_bytes::FirstBytes;
use crate::record_layer::{OVERHEAD, RecordLayer};
use crate::socket::{linger, reset};
use crate::suites::registered_name;

mod exchange;
mod failure;
mod first_record;

use exchange::{CompletedHandshake, HandshakeError, NoHello, ReceivedHello};
pub use failure::HandshakeFailure;

/// Decisions of a gateway about one client during its handshake, in the order of the methods.
pub trait HandshakeGate {
    /// Counted claim of a client whose `ClientHello` is not whole yet.
    type SilentSlot: EvictableSlot;
    /// Counted claim of a client whose `ClientHello` is whole.
    type HandshakeSlot: EvictableSlot;
    /// Verifier of the client, which is part of the configuration.
    type Verifier;
    /// Proof that the client is authorized.
    type Permit;
    /// Reason for which the client is refused.
    type Refusal: From<HandshakeFailure>;

    /// Admits a client that has not sent a byte yet.
    ///
    /// # Errors
    ///
    /// There is no room for it. The client sees a reset.
    fn admit_silent(&self) -> Result<Self::SilentSlot, Self::Refusal>;

    /// Admits the handshake of a client once its `ClientHello` is complete, or cannot
    /// become complete.
    ///
    /// # Errors
    ///
    /// There is no room for it. The client sees a reset.
    fn admit_handshake(
        &self,
        silent: Self::SilentSlot,
    ) -> Result<Self::HandshakeSlot, Self::Refusal>;

    /// Returns the configuration for a client with this hello, and the verifier in it.
    fn configure(&mut self, hello: &ClientHello<'_>) -> (Arc<ServerConfig>, Self::Verifier);

    /// Returns the reason for the refusal of a client whose handshake failed after
    /// [`configure`](Self::configure), perhaps because the verifier refused it.
    fn refusal(&mut self, verifier: &Self::Verifier, failure: HandshakeFailure) -> Self::Refusal;

    /// Authorizes a client whose handshake of this kind is complete: it has proven that it has the
    /// certificate's key, or the secret of a ticket.
    ///
    /// # Errors
    ///
    /// The client is refused. It is sent the alert `access_denied`.
    fn authorize(
        &mut self,
        verifier: &Self::Verifier,
        kind: HandshakeKind,
    ) -> Result<Self::Permit, Self::Refusal>;
}

/// Counted claim that its owner can lose to another client.
pub trait EvictableSlot {
    /// Waits until the client has to give way to another. Cancel safe.
    fn evicted(&self) -> impl Future<Output = ()>;
}

/// Client whose handshake is complete and that is authorized.
pub struct AcceptedClient<G: HandshakeGate> {
    /// The client's stream.
    pub stream: Box<ClientStream>,
    /// Proof that the client is authorized.
    pub permit: G::Permit,
    /// The claim that the handshake had.
    pub slot: G::HandshakeSlot,
    /// Properties of the session.
    pub session: SessionProperties,
}

impl<G: HandshakeGate> fmt::Debug for AcceptedClient<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AcceptedClient");
        shown.field("session", &self.session);
        shown.finish_non_exhaustive()
    }
}

/// Properties of a client's session that its handshake has found.
#[derive(Debug, Clone)]
pub struct SessionProperties {
    /// The application protocol (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The registered name of the cipher suite.
    pub cipher: &'static str,
    /// The client's certificates, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// True if the client came with a ticket.
    pub resumed: bool,
}

/// Does the handshake of a client by the decisions of `gate`, up to the deadline.
///
/// A client that is refused before its `ClientHello` is whole sees a reset, except at the deadline.
/// One that is refused later is sent an alert, and has a second to read it. Dropping the future
/// closes the socket.
///
/// # Errors
///
/// The reason for which the client is refused.
pub async fn accept<G: HandshakeGate>(
    socket: TcpStream,
    deadline: Instant,
    gate: &mut G,
) -> Result<AcceptedClient<G>, G::Refusal> {
    let (slot, bytes) = await_hello(&socket, deadline, gate).await?;
    let first = FirstBytes::of(&bytes);
    let handshaken = timeout_at(deadline, async {
        // It is large, so it is allocated only after the ClientHello is complete.
        let handshake = Box::pin(async {
            let (socket, hello) = read_client_hello(socket, bytes).await?;
            finish(socket, hello, gate).await
        });
        tokio::select! {
            authorized = handshake => authorized,
            () = slot.evicted() => Err(HandshakeFailure::Evicted.into()),
        }
    });
    let handshaken = handshaken.await;
    let (stream, permit, session) = handshaken.map_err(|_| HandshakeFailure::Late(first))??;
    Ok(AcceptedClient {
        stream,
        permit,
        slot,
        session,
    })
}

/// Admits a client that has sent nothing yet, and then its handshake, once its `ClientHello` is
/// whole, or can no longer become so. Returns the slot and the bytes that were read.
async fn await_hello<G: HandshakeGate>(
    socket: &TcpStream,
    deadline: Instant,
    gate: &G,
) -> Result<(G::HandshakeSlot, Vec<u8>), G::Refusal> {
    let silent = gate.admit_silent().inspect_err(|_| reset(socket))?;
    let begun = tokio::select! {
        begun = first_record::first_bytes(socket, deadline) => begun,
        () = silent.evicted() => Err(HandshakeFailure::SilentEvicted),
    };
    let bytes = begun.inspect_err(|why| {
        if !matches!(why, HandshakeFailure::Late(_)) {
            reset(socket);
        }
    })?;
    let slot = gate.admit_handshake(silent);
    Ok((slot.inspect_err(|_| reset(socket))?, bytes))
}

/// Reads the rest of the `ClientHello`, after the bytes that were already read. A client that is
/// refused here gets the time to read its alert.
async fn read_client_hello(
    mut socket: TcpStream,
    bytes: Vec<u8>,
) -> Result<(TcpStream, Box<ReceivedHello>), HandshakeFailure> {
    match Box::pin(exchange::read_client_hello(&mut socket, bytes)).await {
        Ok(hello) => Ok((socket, Box::new(hello))),
        Err(NoHello { error, first }) => {
            Box::pin(linger(socket)).await;
            Err(match error {
                HandshakeError::Tls(_) | HandshakeError::Excess(_) if !first.is_tls() => {
                    HandshakeFailure::NotTls(first)
                }
                HandshakeError::Tls(_)
                | HandshakeError::Excess(_)
                | HandshakeError::Abandoned(_) => failed(error, first),
            })
        }
    }
}

/// Completes the handshake after the `ClientHello`.
async fn finish<G: HandshakeGate>(
    mut socket: TcpStream,
    hello: Box<ReceivedHello>,
    gate: &mut G,
) -> Result<(Box<ClientStream>, G::Permit, SessionProperties), G::Refusal> {
    let (config, verifier) = gate.configure(&hello.client_hello());
    match hello.finish(&mut socket, config).await {
        Ok(handshaken) => authorize(socket, handshaken, &verifier, gate).await,
        Err(error) => {
            linger(socket).await;
            Err(gate.refusal(&verifier, failed(error, FirstBytes::Tls)))
        }
    }
}

/// Authorizes the client once the handshake is over. Only now it is proven that the client holds
/// the private key.
async fn authorize<G: HandshakeGate>(
    socket: TcpStream,
    handshaken: CompletedHandshake,
    verifier: &G::Verifier,
    gate: &mut G,
) -> Result<(Box<ClientStream>, G::Permit, SessionProperties), G::Refusal> {
    let CompletedHandshake {
        session,
        early,
        late,
    } = handshaken;
    // The gateway sends nothing right after the handshake, so the kernel would delay its last ACK
    // by 40 ms, and with it the first bytes of every client that leaves Nagle's algorithm on.
    SockRef::from(&socket).set_tcp_quickack(true).ok();
    let chain = session.peer_certificates();
    let suite = session.negotiated_cipher_suite();
    let kind = session.handshake_kind();
    let kind = kind.ok_or(HandshakeFailure::Tls(
        rustls::Error::NoCertificatesPresented,
    ))?;
    let properties = SessionProperties {
        alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        cipher: suite.map_or("", |suite| registered_name(suite.suite())),
        chain: chain.map(<[_]>::to_vec).unwrap_or_default(),
        resumed: kind == HandshakeKind::Resumed,
    };
    let mut session = RecordLayer::after(session).map_err(HandshakeFailure::Tls)?;
    match gate.authorize(verifier, kind) {
        Ok(permit) => {
            let stream = ClientStream::new(socket, session, &early, &late);
            Ok((Box::new(stream), permit, properties))
        }
        Err(refusal) => {
            Box::pin(deny(socket, &mut session, &late)).await;
            Err(refusal)
        }
    }
}

/// Sends the alert `access_denied` to a client that is refused at the end of its handshake, as
/// rustls does for one that is refused earlier.
async fn deny(mut socket: TcpStream, session: &mut RecordLayer, late: &[u8]) {
    let mut alert = [0; OVERHEAD + 2];
    if let Ok(length) = session.seal_alert(AlertDescription::AccessDenied, &mut alert)
        && socket
            .write_all(&[late, &alert[..length]].concat())
            .await
            .is_ok()
    {
        linger(socket).await;
    }
}

/// Returns the failure of a handshake of a client that began with `first`.
fn failed(error: HandshakeError, first: FirstBytes) -> HandshakeFailure {
    match error {
        HandshakeError::Tls(error) => HandshakeFailure::Tls(error),
        HandshakeError::Excess(excess) => HandshakeFailure::Excess(excess),
        HandshakeError::Abandoned(_) => HandshakeFailure::Abandoned(first),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "each client has a deadline")]
mod tests;
