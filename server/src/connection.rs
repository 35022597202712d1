//! The life of one connection, in the order of its phases: handshake, authorization, admission,
//! relay.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb::DrainGuard;
use rustls::{AlertDescription, HandshakeKind};
use rustls_pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout_at};

use crate::access_record::{Outcome, Record};
use crate::address::unmapped;
use crate::client_refusal::ClientRefusal;
use crate::client_stream::{ClientStream, reset};
use crate::expiry::certificate_ended;
use crate::first_bytes::FirstBytes;
use crate::first_record;
use crate::handshake::{self, CompletedHandshake, HandshakeError, NoHello, ReceivedHello};
use crate::limits::{ConnectionSlot, HandshakeSlot};
use crate::policy::GatewayLimits;
use crate::record_layer::{OVERHEAD, RecordLayer};
use crate::rejection::Rejection;
use crate::shared_state::SharedState;
use crate::snapshot::Permit;
use crate::tls::registered_name;
use crate::verifier::Verifier;
use crate::worker_load::WorkerLoadGuard;

mod relay_session;

use relay_session::RelaySession;

/// Time limit for a client that was refused to read the alert: 1 second.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are still read from a refused client, so that unread bytes do not turn the alert into
/// a reset: 256 KiB, a multiple of what a handshake may have.
const LINGER_BYTES: usize = 256 * 1024;

/// A client that completed its handshake and is authorized, with the session's properties.
struct AuthenticatedClient {
    client: Box<ClientStream>,
    permit: Permit,
    alpn: Option<Vec<u8>>,
    cipher: &'static str,
    chain: Vec<CertificateDer<'static>>,
    resumed: bool,
}

/// Serves one accepted connection up to the writing of its record.
///
/// Dropping this future closes both sockets as resets and returns all slots. Large state is in
/// allocations of its own, so that each phase of a connection uses no more memory than it needs.
pub(crate) async fn handle(
    shared: Arc<SharedState>,
    socket: TcpStream,
    peer: SocketAddr,
    counted: (DrainGuard, Option<WorkerLoadGuard>),
) {
    let destination = socket.local_addr().map_or(peer, unmapped);
    let mut record = shared.recorder().begin(unmapped(peer), destination);
    let outcome = match Box::pin(authenticate(&shared, socket, &mut record)).await {
        Ok((authenticated, slot)) => {
            Box::pin(serve(&shared, authenticated, slot, &mut record)).await
        }
        Err(rejection) => {
            if rejection.counts_towards_ban() {
                shared.handshake_failed(peer.ip());
            }
            Outcome::Rejected(rejection)
        }
    };
    record.end(outcome);
    drop(record);
    drop(counted);
}

/// Takes the slots for a handshake, does the handshake and authorizes the client. The whole is
/// bounded by the policy's handshake timeout.
async fn authenticate(
    shared: &SharedState,
    socket: TcpStream,
    record: &mut Record,
) -> Result<(AuthenticatedClient, ConnectionSlot), Rejection> {
    let limit = shared.snapshot().policy().gateway().timeouts.handshake;
    let deadline = Instant::now() + limit;
    let begun = await_hello(shared, &socket, record.addresses().0.ip(), deadline).await;
    let (slot, bytes) = begun.inspect_err(|why| {
        if !matches!(why, Rejection::HandshakeTimeout(_)) {
            reset(&socket);
        }
    })?;
    let first = FirstBytes::of(&bytes);
    let handshaken = timeout_at(deadline, async {
        // Large, and not needed by a client that stalls before its ClientHello is whole.
        let handshake = Box::pin(async {
            let (socket, hello) = read_client_hello(socket, bytes).await?;
            finish_handshake(shared, socket, hello, record).await
        });
        tokio::select! {
            authenticated = handshake => authenticated,
            () = slot.evicted() => Err(Rejection::HandshakeEvicted),
        }
    });
    let mut authenticated = handshaken
        .await
        .map_err(|_| Rejection::HandshakeTimeout(first))??;
    let identity = authenticated.permit.identity().clone();
    record.authorized(
        identity,
        &authenticated.permit.group().name,
        authenticated.resumed,
    );
    let opened = shared.limits().take_connection_slot(&limits(shared));
    let slot = opened.inspect_err(|_| lb::Downstream::abort(&mut *authenticated.client))?;
    Ok((authenticated, slot))
}

/// Takes a slot for a connection that has sent nothing yet, and exchanges it for a handshake's slot
/// once its `ClientHello` is whole, or can no longer become so. Returns that slot and the bytes
/// that were read.
async fn await_hello(
    shared: &SharedState,
    socket: &TcpStream,
    source: IpAddr,
    deadline: Instant,
) -> Result<(HandshakeSlot, Vec<u8>), Rejection> {
    let (pre_auth, limits) = (shared.limits(), limits(shared));
    let silent = pre_auth.take_silent_slot(source, &limits, Instant::now().into_std())?;
    let bytes = tokio::select! {
        begun = first_record::first_bytes(socket, deadline) => begun?,
        () = silent.evicted() => return Err(Rejection::SilentEvicted),
    };
    let now = Instant::now().into_std();
    let slot = pre_auth.take_handshake_slot(silent, source, &limits, now)?;
    Ok((slot, bytes))
}

/// Reads the rest of the `ClientHello`, after the bytes that were already read. A client that is
/// refused here gets the time to read its alert.
async fn read_client_hello(
    mut socket: TcpStream,
    bytes: Vec<u8>,
) -> Result<(TcpStream, Box<ReceivedHello>), Rejection> {
    match Box::pin(handshake::read_client_hello(&mut socket, bytes)).await {
        Ok(hello) => Ok((socket, Box::new(hello))),
        Err(NoHello { error, first }) => {
            Box::pin(linger(socket)).await;
            Err(match error {
                HandshakeError::Abandoned(_) => Rejection::HandshakeAbandoned(first),
                HandshakeError::Tls(_) | HandshakeError::Excess(_) if !first.is_tls() => {
                    Rejection::NotTls(first)
                }
                HandshakeError::Tls(_) | HandshakeError::Excess(_) => failed(error),
            })
        }
    }
}

fn limits(shared: &SharedState) -> GatewayLimits {
    shared.snapshot().policy().gateway().limits
}

/// Completes the handshake after the `ClientHello`, and notes in the record what it found out. The
/// result is a client that is authenticated and authorized.
async fn finish_handshake(
    shared: &SharedState,
    mut socket: TcpStream,
    hello: Box<ReceivedHello>,
    record: &mut Record,
) -> Result<AuthenticatedClient, Rejection> {
    let port = record.addresses().1.port();
    let verifier = Verifier::new(shared.snapshot(), &hello.client_hello(), port);
    record.hello_read(verifier.generation(), verifier.destination().sni.clone());
    let config = verifier.configuration();
    match hello.finish(&mut socket, config).await {
        Ok(handshaken) => accept_client(socket, handshaken, &verifier, record).await,
        Err(error) => {
            linger(socket).await;
            let ClientRefusal { rejection, client } = verifier.take_refusal();
            if let Some(client) = client {
                record.refused(client);
            }
            Err(rejection.unwrap_or_else(|| match error {
                HandshakeError::Tls(rustls::Error::NoApplicationProtocol) => verifier.no_protocol(),
                HandshakeError::Tls(_)
                | HandshakeError::Excess(_)
                | HandshakeError::Abandoned(_) => failed(error),
            }))
        }
    }
}

/// Takes the verifier's [`Permit`] once the handshake is over. Only now it is proven that the
/// client holds the private key.
async fn accept_client(
    socket: TcpStream,
    handshaken: CompletedHandshake,
    verifier: &Verifier,
    record: &mut Record,
) -> Result<AuthenticatedClient, Rejection> {
    let CompletedHandshake {
        session,
        early,
        late,
    } = handshaken;
    // The gateway sends nothing right after the handshake, so the kernel would delay its last ACK
    // by 40 ms, and with it the first bytes of every client that leaves Nagle's algorithm on.
    SockRef::from(&socket).set_tcp_quickack(true).ok();
    let chain = session
        .peer_certificates()
        .map(<[_]>::to_vec)
        .unwrap_or_default();
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    let suite = session.negotiated_cipher_suite();
    let cipher = suite.map_or("", |suite| registered_name(suite.suite()));
    let kind = session.handshake_kind().ok_or(Rejection::NoCertificate)?;
    let resumed = kind == HandshakeKind::Resumed;
    let mut session = RecordLayer::after(session).map_err(Rejection::Tls)?;
    let permit = match verifier.take_permit(kind) {
        Ok(permit) => permit,
        Err(ClientRefusal { rejection, client }) => {
            if let Some(client) = client {
                record.refused(client);
            }
            Box::pin(deny(socket, &mut session, &late)).await;
            return Err(rejection.unwrap_or(Rejection::NoCertificate));
        }
    };
    Ok(AuthenticatedClient {
        client: Box::new(ClientStream::new(socket, session, &early, &late)),
        permit,
        alpn,
        cipher,
        chain,
        resumed,
    })
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

/// Converts the error of a handshake for which the verifier gave no reason.
fn failed(error: HandshakeError) -> Rejection {
    match error {
        HandshakeError::Tls(rustls::Error::NoCertificatesPresented) => Rejection::NoCertificate,
        HandshakeError::Tls(error) => Rejection::Tls(error),
        HandshakeError::Excess(excess) => Rejection::Excess(excess),
        HandshakeError::Abandoned(_) => Rejection::HandshakeAbandoned(FirstBytes::Tls),
    }
}

/// Closes a refused client's connection so that the alert arrives.
///
/// A socket closed with unread bytes sends a reset, which may overtake the alert. Therefore the
/// write side is shut down first, and at most [`LINGER_BYTES`] are read for at most [`LINGER`].
async fn linger(mut socket: TcpStream) {
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

/// Serves an authorized client: admission by its limits, then the relay, until one of the reasons
/// in [`Outcome`] ends the connection.
async fn serve(
    shared: &SharedState,
    authenticated: AuthenticatedClient,
    _slot: ConnectionSlot,
    record: &mut Record,
) -> Outcome {
    let AuthenticatedClient {
        mut client,
        permit,
        alpn,
        cipher,
        chain,
        ..
    } = authenticated;
    let entered = shared
        .admit_client(&mut client, permit, chain, record)
        .await;
    let guard = match entered {
        Ok(guard) => guard,
        Err(outcome) => {
            lb::Downstream::abort(&mut *client);
            return outcome;
        }
    };
    let session = RelaySession {
        alpn: alpn.as_deref(),
        cipher,
        guard: &guard,
    };
    let (ends, connection) = (guard.permit().expires(), record.connection());
    let on_revoke = || {
        let snapshot = shared.snapshot();
        let settings = snapshot.policy().gateway();
        (settings.on_revoke, settings.timeouts.drain)
    };
    let outcome = tokio::select! {
        outcome = session.relay(&mut client, record) => outcome,
        () = guard.revoked() => Outcome::Revoked,
        () = certificate_ended(ends, connection, on_revoke) => Outcome::CertificateEnded,
        () = shared.drain().cut_off() => Outcome::CutOff,
    };
    match outcome {
        Outcome::Finished | Outcome::ClientLeft => {}
        Outcome::Broken(_)
        | Outcome::Revoked
        | Outcome::CertificateEnded
        | Outcome::CutOff
        | Outcome::Rejected(_) => {
            lb::Downstream::abort(&mut *client);
        }
    }
    if let Outcome::Broken(_) = outcome
        && let Some(socket) = client.into_misbehaved_socket()
    {
        drop(guard);
        Box::pin(linger(socket)).await;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size in bytes of the future of a function with four arguments.
    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_small() {
        // There is one for each, in the handshake and after it.
        assert!(size(handle) <= 816, "{}", size(handle));
    }
}
