//! What decides about one connection, in the middle of its handshake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ProducesTickets};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, HandshakeKind,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::identity::Identity;
use crate::policy::DenyReason;
use crate::rejection::Rejection;
use crate::snapshot::{GatewaySnapshot, Permit};
use crate::ticket::TicketContents;
use crate::tls::IdentifiedClient;
use crate::trust;

/// The suites that are spoken here (RFC 8446, B.4).
const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// How many tickets of one hello are opened. Clients show one or two; 16 KiB have room for hundreds, each of which
/// costs a decryption.
const MOST_TICKETS: usize = 4;

/// Decides about one connection, in the middle of its handshake.
///
/// Made after the `ClientHello`, it knows where the client wants to go when it learns who the client
/// is, so that a client that may not is told so by the handshake itself.
///
/// Nothing but the certificate's chain is looked at before the client has proven that it has the
/// certificate's key: certificates are no secret, and answers that depend on the policy would tell anybody what
/// their owners may reach. Every refusal by the policy looks the same from outside.
#[derive(Debug)]
pub struct Verifier {
    snapshot: Arc<GatewaySnapshot>,
    destination: Destination,
    protocols: Vec<Vec<u8>>,
    /// Whether the client's processor is better at `ChaCha20` than at AES, as its order of suites says.
    prefers_chacha: bool,
    state: Mutex<VerifierState>,
    /// How many tickets the client has shown.
    tickets: AtomicUsize,
}

/// What is known about the client of a connection.
#[derive(Debug, Default)]
enum VerifierState {
    #[default]
    Unknown,
    /// The client says who it is: by a certificate with a good chain, or by a ticket that was sealed here.
    /// Until it has proven that, nothing is decided.
    Claimed(ClaimedClient),
    /// The client has proven who it is, and may.
    Allowed {
        permit: Permit,
        proof: ProofKind,
        ticket: TicketContents,
    },
    Refused(ClientRefusal),
}

/// Who a client says it is.
#[derive(Debug)]
struct ClaimedClient {
    client: IdentifiedClient,
    proof: ProofKind,
    /// When the client has proven that it has the certificate's key: now, if it comes to that, or before it got
    /// its ticket.
    proven: UnixTime,
}

/// What a client proves who it is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProofKind {
    Certificate,
    Ticket,
}

/// Why a client is refused, and whom its certificate names.
#[derive(Debug)]
pub struct ClientRefusal {
    /// Why, if it was the verifier that refused.
    pub rejection: Option<Rejection>,
    /// Who the client is, or says that it is.
    pub client: Option<NamedClient>,
}

/// Whom a certificate names.
#[derive(Debug, Clone)]
pub enum NamedClient {
    /// The client showed the certificate, and has not proven that it is its own.
    Claimed(Identity),
    /// The client proved that it has the certificate's key.
    Proven(Identity),
}

/// Where a client wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The SNI name, if there was one.
    pub sni: Option<String>,
    /// The port that the client connected to.
    pub port: u16,
}

impl Verifier {
    /// Reads the `ClientHello` and makes what decides about its connection.
    ///
    /// ALPN is answered before the client is known: with the client's first protocol that the group speaks which
    /// the name leads to. A name that leads nowhere is answered as if it led to some group.
    pub fn new(snapshot: Arc<GatewaySnapshot>, hello: &ClientHello<'_>, port: u16) -> Arc<Self> {
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        let first = hello
            .cipher_suites()
            .iter()
            .find(|one| SUITES.contains(one));
        let prefers_chacha = first == Some(&CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let destination = Destination { sni, port };
        let protocols = snapshot.protocols(&destination);
        let chosen = hello
            .alpn()
            .and_then(|mut offers| offers.find(|offer| protocols.iter().any(|one| one == offer)));
        // Without an agreement rustls refuses a client that offers something to a group that speaks something
        // (RFC 7301, 3.2).
        let protocols = chosen.map_or_else(|| protocols.to_vec(), |chosen| vec![chosen.to_vec()]);
        Arc::new(Self {
            snapshot,
            destination,
            protocols,
            prefers_chacha,
            state: Mutex::default(),
            tickets: AtomicUsize::new(0),
        })
    }

    /// The rustls configuration that asks this verifier.
    pub fn configuration(self: &Arc<Self>) -> Arc<ServerConfig> {
        Arc::new(self.snapshot.tls().configuration(self))
    }

    /// Where the client wants to go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The generation of the policy that decides.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation()
    }

    /// The application protocols to agree on with the client: one, if there is one in common.
    pub(crate) fn protocols(&self) -> &[Vec<u8>] {
        &self.protocols
    }

    /// Why no application protocol was agreed on.
    pub(crate) fn no_protocol(&self) -> Rejection {
        let Destination { sni, port } = &self.destination;
        match (self.snapshot.policy().leads_to(sni.as_deref(), *port), sni) {
            (Some(_), _) => Rejection::Protocol,
            (None, Some(_)) => Rejection::Policy(DenyReason::UnknownName),
            (None, None) => Rejection::Policy(DenyReason::NoName),
        }
    }

    /// Whether the client's processor is better at `ChaCha20` than at AES.
    pub(crate) fn prefers_chacha(&self) -> bool {
        self.prefers_chacha
    }

    /// The client's permit, once a handshake of this kind is over.
    ///
    /// It can be taken once. It is worth something only after the handshake has proven that the client has
    /// the certificate's key, or the secret of the ticket: ask for it then and not before.
    pub fn take_permit(&self, handshake: HandshakeKind) -> Result<Permit, ClientRefusal> {
        let expected = match handshake {
            HandshakeKind::Resumed => ProofKind::Ticket,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => {
                ProofKind::Certificate
            }
        };
        let mut state = self.state.lock();
        if expected == ProofKind::Ticket {
            self.resume(&mut state);
        }
        match std::mem::take(&mut *state) {
            VerifierState::Allowed { permit, proof, .. } if proof == expected => Ok(permit),
            VerifierState::Refused(refusal) => Err(refusal),
            VerifierState::Allowed { .. } | VerifierState::Claimed(_) | VerifierState::Unknown => {
                Err(ClientRefusal {
                    rejection: Some(Rejection::NoCertificate),
                    client: None,
                })
            }
        }
    }

    /// What is known about a client whose handshake failed.
    pub fn take_refusal(&self) -> ClientRefusal {
        let (rejection, client) = match std::mem::take(&mut *self.state.lock()) {
            VerifierState::Refused(refusal) => return refusal,
            VerifierState::Allowed { permit, .. } => {
                (None, Some(NamedClient::Proven(permit.identity().clone())))
            }
            VerifierState::Claimed(claim) => {
                let named = claim.client.claim().clone();
                (None, Some(NamedClient::Claimed(named)))
            }
            VerifierState::Unknown => (None, None),
        };
        ClientRefusal { rejection, client }
    }

    /// The client of this claim has proven that it is who it says: only now is it remembered, and only now is
    /// the policy asked.
    fn authorize(&self, claim: ClaimedClient) -> VerifierState {
        let ClaimedClient {
            client,
            proof,
            proven,
        } = claim;
        let certificates_end = client.certificates_end();
        let identity = self.snapshot.tls().cache(client);
        let certificate = identity.fingerprint();
        match self.snapshot.authorize(identity.clone(), &self.destination) {
            Ok(permit) => VerifierState::Allowed {
                permit: permit.until(certificates_end),
                proof,
                ticket: TicketContents {
                    proven,
                    certificate,
                },
            },
            Err(rejection) => VerifierState::Refused(ClientRefusal {
                rejection: Some(rejection),
                client: Some(NamedClient::Proven(identity)),
            }),
        }
    }

    /// Authorizes a client that came with a ticket, as if it had shown its certificate. The handshake is over:
    /// before its end a copy of somebody's `ClientHello` would do.
    fn resume(&self, state: &mut VerifierState) {
        if let VerifierState::Claimed(claim) = state
            && claim.proof == ProofKind::Ticket
            && let VerifierState::Claimed(claim) = std::mem::take(state)
        {
            *state = self.authorize(claim);
        }
    }

    /// What a ticket of this connection says. rustls gives tickets at the handshake's end.
    fn ticket(&self) -> Option<TicketContents> {
        let mut state = self.state.lock();
        self.resume(&mut state);
        match &*state {
            VerifierState::Allowed { ticket, .. } => Some(*ticket),
            VerifierState::Claimed(_) | VerifierState::Refused(_) | VerifierState::Unknown => None,
        }
    }

    /// Who a client with this ticket says that it is, if a certificate is not needed to know.
    fn claim(&self, ticket: TicketContents, now: UnixTime) -> Option<ClaimedClient> {
        ticket.left(now)?;
        // Known by this certificate under these authorities and revocations, and until the first of them ends.
        let client = self.snapshot.tls().cached(ticket.certificate, now)?;
        Some(ClaimedClient {
            client,
            proof: ProofKind::Ticket,
            proven: ticket.proven,
        })
    }

    /// The answer to a signature that is not of the certificate's key, or cannot be looked at.
    fn unproven(&self, error: &rustls::Error) {
        let mut state = self.state.lock();
        if let VerifierState::Claimed(claim) = std::mem::take(&mut *state) {
            let is_wrong = matches!(error, rustls::Error::InvalidCertificate(_));
            *state = VerifierState::Refused(ClientRefusal {
                rejection: is_wrong.then_some(Rejection::KeyNotProven),
                client: Some(NamedClient::Claimed(claim.client.claim().clone())),
            });
        }
    }
}

/// rustls asks here for each ticket that it is shown and for each that it is to give.
impl ProducesTickets for Verifier {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        let left = self
            .ticket()
            .and_then(|ticket| ticket.left(UnixTime::now()));
        left.map_or(0, |left| u32::try_from(left.as_secs()).unwrap_or(0))
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let ticket = self.ticket()?;
        let (tls, now) = (self.snapshot.tls(), UnixTime::now());
        // One that would not be taken back is not given.
        ticket.left(now)?;
        tls.cached(ticket.certificate, now)?;
        tls.tickets().seal(ticket, session)
    }

    /// A ticket is good only if rustls finds, in addition, that it was given for the same SNI name and that
    /// the client knows its secret. If it does not, the certificate's claim takes the place of this one.
    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        *state = VerifierState::Unknown;
        if self.tickets.fetch_add(1, Relaxed) >= MOST_TICKETS {
            return None;
        }
        let (ticket, session) = self.snapshot.tls().tickets().open(sealed)?;
        *state = VerifierState::Claimed(self.claim(ticket, UnixTime::now())?);
        Some(session)
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.snapshot.tls().trust().subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (state, answer) = match self.snapshot.tls().identify(leaf, intermediates, now) {
            Ok(client) => {
                let claim = ClaimedClient {
                    client,
                    proof: ProofKind::Certificate,
                    proven: now,
                };
                (
                    VerifierState::Claimed(claim),
                    Ok(ClientCertVerified::assertion()),
                )
            }
            Err(rejection) => {
                let error = if let Rejection::Untrusted(untrusted) = &rejection {
                    untrusted.alert()
                } else {
                    CertificateError::ApplicationVerificationFailure.into()
                };
                let refusal = ClientRefusal {
                    rejection: Some(rejection),
                    client: claimed(leaf),
                };
                (VerifierState::Refused(refusal), Err(error))
            }
        };
        *self.state.lock() = state;
        answer
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = self.snapshot.tls().algorithms();
        let valid = verify_tls13_signature(message, certificate, signature, algorithms)
            .inspect_err(|error| self.unproven(error))?;
        let mut state = self.state.lock();
        if let VerifierState::Claimed(claim) = std::mem::take(&mut *state) {
            *state = self.authorize(claim);
        }
        match &*state {
            VerifierState::Allowed { .. } => Ok(valid),
            VerifierState::Claimed(_) | VerifierState::Refused(_) | VerifierState::Unknown => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.snapshot.tls().algorithms().supported_schemes()
    }
}

/// Whom a certificate names that is not trusted.
fn claimed(leaf: &CertificateDer<'_>) -> Option<NamedClient> {
    if leaf.len() > trust::LARGEST_CHAIN {
        return None;
    }
    Identity::of(leaf).ok().map(NamedClient::Claimed)
}

#[cfg(test)]
mod tests;
