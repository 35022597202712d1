//! The life of one connection, top to bottom.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb::{DialReport, Dialed, Finished, Stay};
use rustls::{AlertDescription, HandshakeKind};
use rustls_pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::access_record::{Outcome, Record};
use crate::client_stream::{TlsClient, reset};
use crate::connection_table::Holder;
use crate::expiry::certificate_ended;
use crate::first_bytes::FirstBytes;
use crate::first_record;
use crate::gateway::Gateway;
use crate::handshake::{self, HandshakeError, Handshaken, Hello, NoHello};
use crate::limits::{ConnectionSlot, HandshakeSlot};
use crate::policy::GatewayLimits;
use crate::proxy_header::{ProxyHeader, unmapped};
use crate::record_layer::{OVERHEAD, Session};
use crate::rejection::Rejection;
use crate::snapshot::Permit;
use crate::verifier::{Refusal, Verifier};
use crate::worker::Busy;

/// How long a client that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much more of a refused client's bytes is read, so that they do not turn the alert into a
/// reset: some multiple of what a handshake may have.
const FAREWELL_BYTES: usize = 256 * 1024;

/// A client that proved who it is and may go where it wants to.
struct Guest {
    client: Box<TlsClient>,
    permit: Permit,
    alpn: Option<Vec<u8>>,
    cipher: &'static str,
    chain: Vec<CertificateDer<'static>>,
    resumed: bool,
}

/// Takes a connection from accepted to recorded.
///
/// Dropping this future closes both sockets as resets and returns every claim. What is large on the way
/// is in allocations of its own, so that each phase of a connection has no more than it needs.
pub(crate) async fn carry(
    gateway: Arc<Gateway>,
    socket: TcpStream,
    peer: SocketAddr,
    counted: (Stay, Option<Busy>),
) {
    let destination = socket.local_addr().map_or(peer, unmapped);
    let mut record = gateway.recorder().begin(unmapped(peer), destination);
    let outcome = match Box::pin(greet(&gateway, socket, &mut record)).await {
        Ok((guest, slot)) => Box::pin(serve(&gateway, guest, slot, &mut record)).await,
        Err(rejection) => {
            if rejection.counts_towards_ban() {
                gateway.handshake_failed(peer.ip());
            }
            Outcome::Rejected(rejection)
        }
    };
    record.end(outcome);
    drop(record);
    drop(counted);
}

/// From accepted to authorized: slots, then the handshake with all that it decides.
async fn greet(
    gateway: &Arc<Gateway>,
    socket: TcpStream,
    record: &mut Record,
) -> Result<(Guest, ConnectionSlot), Rejection> {
    let limit = gateway.running().policy().gateway().timeouts.handshake;
    let deadline = Instant::now() + limit;
    let begun = await_hello(gateway, &socket, record.addresses().0.ip(), deadline).await;
    let (slot, bytes) = begun.inspect_err(|why| {
        if !matches!(why, Rejection::HandshakeTimeout(_)) {
            reset(&socket);
        }
    })?;
    let first = FirstBytes::of(&bytes);
    let handshaken = timeout_at(deadline, async {
        // Large, and not yet needed by a client that stalls before its ClientHello is whole.
        let handshake = Box::pin(async {
            let (socket, hello) = hear(socket, bytes).await?;
            answer(gateway, socket, hello, record).await
        });
        tokio::select! {
            guest = handshake => guest,
            () = slot.evicted() => Err(Rejection::HandshakeEvicted),
        }
    });
    let mut guest = handshaken
        .await
        .map_err(|_| Rejection::HandshakeTimeout(first))??;
    let identity = guest.permit.identity().clone();
    record.authorized(identity, &guest.permit.group().name, guest.resumed);
    let opened = gateway.admission().open(&limits(gateway));
    let slot = opened.inspect_err(|_| lb::Downstream::abort(&mut *guest.client))?;
    Ok((guest, slot))
}

/// Takes a slot for a connection that says nothing yet, and one for its handshake once its `ClientHello`
/// is whole. Returns what the connection begins with.
async fn await_hello(
    gateway: &Gateway,
    socket: &TcpStream,
    source: IpAddr,
    deadline: Instant,
) -> Result<(HandshakeSlot, Vec<u8>), Rejection> {
    let (admission, limits) = (gateway.admission(), limits(gateway));
    let silent = admission.arrive(source, &limits, Instant::now().into_std())?;
    let bytes = tokio::select! {
        begun = first_record::beginning(socket, deadline) => begun?,
        () = silent.evicted() => return Err(Rejection::SilentEvicted),
    };
    let now = Instant::now().into_std();
    let slot = admission.begin_handshake(silent, source, &limits, now)?;
    Ok((slot, bytes))
}

/// Reads the rest of the `ClientHello`.
async fn hear(mut socket: TcpStream, bytes: Vec<u8>) -> Result<(TcpStream, Box<Hello>), Rejection> {
    match Box::pin(handshake::hear(&mut socket, bytes)).await {
        Ok(hello) => Ok((socket, Box::new(hello))),
        Err(NoHello { error, first }) => {
            Box::pin(part(socket)).await;
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

fn limits(gateway: &Gateway) -> GatewayLimits {
    gateway.running().policy().gateway().limits
}

/// From the `ClientHello` to a client that is known and authorized.
async fn answer(
    gateway: &Gateway,
    mut socket: TcpStream,
    hello: Box<Hello>,
    record: &mut Record,
) -> Result<Guest, Rejection> {
    let port = record.addresses().1.port();
    let verifier = Verifier::new(gateway.running(), &hello.client_hello(), port);
    record.greeted(verifier.generation(), verifier.destination().sni.clone());
    let config = verifier.configuration();
    match hello.answer(&mut socket, config).await {
        Ok(handshaken) => welcome(socket, handshaken, &verifier, record).await,
        Err(error) => {
            part(socket).await;
            let Refusal { rejection, client } = verifier.take_refusal();
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

/// The handshake is over: the client holds the key, so the verifier's permit is worth something.
async fn welcome(
    socket: TcpStream,
    handshaken: Handshaken,
    verifier: &Verifier,
    record: &mut Record,
) -> Result<Guest, Rejection> {
    let Handshaken {
        session,
        early,
        late,
    } = handshaken;
    // Nothing follows the handshake at once, so the kernel would hold its last ACK back for 40 ms, and
    // with it the first bytes of every client that leaves Nagle's algorithm on.
    SockRef::from(&socket).set_tcp_quickack(true).ok();
    let chain = session
        .peer_certificates()
        .map(<[_]>::to_vec)
        .unwrap_or_default();
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    let cipher = session.negotiated_cipher_suite().map_or("", |suite| {
        suite.suite().as_str().map_or("", |name| match name {
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            _ => "",
        })
    });
    let kind = session.handshake_kind().ok_or(Rejection::NoCertificate)?;
    let resumed = kind == HandshakeKind::Resumed;
    let mut session = Session::after(session).map_err(Rejection::Tls)?;
    let permit = match verifier.take_permit(kind) {
        Ok(permit) => permit,
        Err(Refusal { rejection, client }) => {
            if let Some(client) = client {
                record.refused(client);
            }
            Box::pin(deny(socket, &mut session, &late)).await;
            return Err(rejection.unwrap_or(Rejection::NoCertificate));
        }
    };
    Ok(Guest {
        client: Box::new(TlsClient::new(socket, session, &early, &late)),
        permit,
        alpn,
        cipher,
        chain,
        resumed,
    })
}

/// Tells a client that was refused at the end of its handshake, as rustls tells one that is refused before.
async fn deny(mut socket: TcpStream, session: &mut Session, late: &[u8]) {
    let mut alert = [0; OVERHEAD + 2];
    if let Ok(length) = session.seal_alert(AlertDescription::AccessDenied, &mut alert)
        && socket
            .write_all(&[late, &alert[..length]].concat())
            .await
            .is_ok()
    {
        part(socket).await;
    }
}

/// Why a handshake failed for which no verdict was given.
fn failed(error: HandshakeError) -> Rejection {
    match error {
        HandshakeError::Tls(rustls::Error::NoCertificatesPresented) => Rejection::NoCertificate,
        HandshakeError::Tls(error) => Rejection::Tls(error),
        HandshakeError::Excess(excess) => Rejection::Excess(excess),
        HandshakeError::Abandoned(_) => Rejection::HandshakeAbandoned(FirstBytes::Tls),
    }
}

/// Ends a refused client's connection so that the alert arrives.
///
/// A socket closed with unread bytes sends a reset, which may overtake the alert; so the write side
/// is shut and a little is read first.
async fn part(mut socket: TcpStream) {
    let deadline = Instant::now() + FAREWELL;
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut left = FAREWELL_BYTES;
    let mut buffer = [0; 1024];
    while left > 0 {
        match timeout_at(deadline, socket.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => left = left.saturating_sub(read),
            Ok(_) | Err(_) => return,
        }
    }
}

/// From authorized to the end: limits, an upstream, the relay.
async fn serve(
    gateway: &Arc<Gateway>,
    guest: Guest,
    _slot: ConnectionSlot,
    record: &mut Record,
) -> Outcome {
    let Guest {
        mut client,
        permit,
        alpn,
        cipher,
        chain,
        ..
    } = guest;
    let entered = gateway.let_in(&mut client, permit, chain, record).await;
    let holder = match entered {
        Ok(holder) => holder,
        Err(outcome) => {
            lb::Downstream::abort(&mut *client);
            return outcome;
        }
    };
    let visit = Visit {
        alpn: alpn.as_deref(),
        cipher,
        holder: &holder,
    };
    let (ends, connection) = (holder.permit().ends(), record.connection());
    let on_revoke = || {
        let running = gateway.running();
        let settings = running.policy().gateway();
        (settings.on_revoke, settings.timeouts.drain)
    };
    let outcome = tokio::select! {
        outcome = visit.relay(&mut client, record) => outcome,
        () = holder.lapsed() => Outcome::Revoked,
        () = certificate_ended(ends, connection, on_revoke) => Outcome::CertificateEnded,
        () = gateway.drain().cut_off() => Outcome::CutOff,
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
        && let Some(socket) = client.into_accused()
    {
        drop(holder);
        Box::pin(part(socket)).await;
    }
    outcome
}

struct Visit<'a> {
    alpn: Option<&'a [u8]>,
    cipher: &'static str,
    holder: &'a Holder,
}

impl Visit<'_> {
    /// Dials and relays. Dropping it half way resets the upstream.
    async fn relay(&self, client: &mut TlsClient, record: &mut Record) -> Outcome {
        let group = self.holder.permit().upstreams();
        let mut report = DialReport::default();
        let dialed = lb::dial(group, &mut report).await;
        let upstream = dialed.as_ref().ok().map(|dialed| dialed.lease.address());
        record.dialed(upstream, report.tries);
        let mut dialed: Dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => return Outcome::Rejected(Rejection::Dial(error)),
        };
        self.holder.dialed(dialed.lease.address());
        if let Err(error) = self.introduce(&mut dialed.stream, record).await {
            return Outcome::Rejected(Rejection::Header(error));
        }
        match dialed.relay(client, &record.traffic()).await {
            Ok(Finished::Both) => Outcome::Finished,
            Ok(Finished::ClientLeft) => Outcome::ClientLeft,
            Err(error) => Outcome::Broken(error),
        }
    }

    /// Tells the upstream who comes, if it wants to know.
    async fn introduce(&self, upstream: &mut TcpStream, record: &Record) -> io::Result<()> {
        let permit = self.holder.permit();
        if permit.group().proxy_protocol.is_none() {
            return Ok(());
        }
        let (source, destination) = record.addresses();
        let header = ProxyHeader {
            source,
            destination,
            authority: permit.destination().sni.as_deref(),
            alpn: self.alpn,
            cipher: self.cipher,
            client: permit.identity().name().as_str(),
        };
        let limit = permit.upstreams().config().dial.connect;
        timeout(limit, upstream.write_all(&header.encode()?)).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes a future has whose function takes four arguments.
    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_small() {
        // There is one for each, in the handshake and after it.
        assert!(size(carry) <= 808, "{}", size(carry));
    }
}
