//! Verification and authorization of a client during its handshake.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use policy::{DenyReason, Destination};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ProducesTickets};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, HandshakeKind, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tls::CipherOrder;
use tls::claimed_certificate::ClaimedCertificate;
use tls::ticket::TicketContents;
use tls::trust;

use crate::client_identity::Identity;
use crate::client_refusal::{ClientRefusal, DistrustedClient, NamedClient};
use crate::rejection::Rejection;
use crate::snapshot::{GatewaySnapshot, Permit};

mod state;

use state::{ClaimedClient, ProofKind, VerifierState};

/// Maximum number of tickets of one hello that are opened. Clients present one or two; 16 KiB have
/// room for hundreds, each of which costs a decryption.
const MOST_TICKETS: usize = 4;

/// Decides about one connection during its handshake.
///
/// It is created after the `ClientHello`, so it knows the destination when it learns the client's
/// identity. Therefore the handshake itself fails for a client that is not authorized.
///
/// Only the certificate's chain is checked before the client has proven that it has the
/// certificate's key: certificates are not secret, and answers that depend on the policy would show
/// an attacker what their owners may reach. Clients cannot distinguish the refusals by the policy.
#[derive(Debug)]
pub struct Verifier {
    snapshot: Arc<GatewaySnapshot>,
    destination: Destination,
    /// The application protocols for rustls: only the common one if there is one, and otherwise all
    /// of the group.
    protocols: Vec<Vec<u8>>,
    cipher_order: CipherOrder,
    state: Mutex<VerifierState>,
    /// Number of tickets that the client has presented.
    tickets: AtomicUsize,
}

impl Verifier {
    /// Creates the verifier of a connection from its `ClientHello`.
    ///
    /// ALPN is answered before the client is known: with the client's first protocol that the
    /// name's group supports. A name that leads to no group is answered as if it led to one.
    pub fn new(snapshot: Arc<GatewaySnapshot>, hello: &ClientHello<'_>, port: u16) -> Arc<Self> {
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        let destination = Destination { sni, port };
        let protocols = snapshot.protocols(&destination);
        let chosen = hello
            .alpn()
            .and_then(|mut offers| offers.find(|offer| protocols.iter().any(|one| one == offer)));
        // Without a common protocol rustls refuses a client that offers some to a group that
        // supports some (RFC 7301, 3.2).
        let protocols = chosen.map_or_else(|| protocols.to_vec(), |chosen| vec![chosen.to_vec()]);
        Arc::new(Self {
            snapshot,
            destination,
            protocols,
            cipher_order: CipherOrder::of(hello),
            state: Mutex::default(),
            tickets: AtomicUsize::new(0),
        })
    }

    /// Creates the rustls configuration that uses this verifier.
    pub fn configuration(self: &Arc<Self>) -> Arc<ServerConfig> {
        let tls = self.snapshot.tls();
        let verifier: Arc<dyn ClientCertVerifier> = Arc::<Self>::clone(self);
        let ticketer: Arc<dyn ProducesTickets> = Arc::<Self>::clone(self);
        let protocols = self.protocols.clone();
        Arc::new(tls.configuration(verifier, ticketer, protocols, self.cipher_order))
    }

    /// Returns the destination that the client requests.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Returns the generation of the [`GatewaySnapshot`] that decides.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation()
    }

    /// Returns the reason why no application protocol was agreed on.
    pub(crate) fn no_protocol(&self) -> Rejection {
        let Destination { sni, port } = &self.destination;
        match (self.snapshot.policy().leads_to(sni.as_deref(), *port), sni) {
            (Some(_), _) => Rejection::Protocol,
            (None, Some(_)) => Rejection::Policy(DenyReason::UnknownName),
            (None, None) => Rejection::Policy(DenyReason::NoName),
        }
    }

    /// Takes the client's [`Permit`] after a completed handshake of this kind. It can be taken
    /// once.
    ///
    /// Call it only after the handshake has ended: this proves that the client has the
    /// certificate's key, or the secret of the ticket.
    ///
    /// # Errors
    ///
    /// The client was refused, or has not proven its identity in the way that belongs to this kind
    /// of handshake.
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

    /// Takes the refusal of a client whose handshake failed, with the identity as far as it is
    /// known.
    pub fn take_refusal(&self) -> ClientRefusal {
        let (rejection, client) = match std::mem::take(&mut *self.state.lock()) {
            VerifierState::Refused(refusal) => return refusal,
            VerifierState::Allowed { permit, .. } => {
                (None, Some(NamedClient::Proven(permit.identity().clone())))
            }
            VerifierState::Claimed(claim) => (None, Some(NamedClient::Claimed(claim.identity))),
            VerifierState::Unknown => (None, None),
        };
        ClientRefusal { rejection, client }
    }

    /// Authorizes a client that has proven its claim. Only now its chain is cached and the policy
    /// is evaluated.
    fn authorize(&self, claim: ClaimedClient) -> VerifierState {
        let ClaimedClient {
            client,
            identity,
            proof,
            proven,
        } = claim;
        let certificates_end = client.certificates_end();
        self.snapshot.tls().cache(client);
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

    /// Authorizes a client with a ticket as if it had presented its certificate. The handshake must
    /// be complete: before its end, a copy of another client's `ClientHello` would be enough.
    fn resume(&self, state: &mut VerifierState) {
        if let VerifierState::Claimed(claim) = state
            && claim.proof == ProofKind::Ticket
            && let VerifierState::Claimed(claim) = std::mem::take(state)
        {
            *state = self.authorize(claim);
        }
    }

    /// Returns the contents of a new ticket for this connection. rustls issues tickets at the end
    /// of the handshake.
    fn ticket(&self) -> Option<TicketContents> {
        let mut state = self.state.lock();
        self.resume(&mut state);
        match &*state {
            VerifierState::Allowed { ticket, .. } => Some(*ticket),
            VerifierState::Claimed(_) | VerifierState::Refused(_) | VerifierState::Unknown => None,
        }
    }

    /// Returns the claim of a client with this ticket. `None` if the ticket has expired or the
    /// client's chain is not cached: then the client has to present its certificate.
    fn claim(&self, ticket: TicketContents, now: UnixTime) -> Option<ClaimedClient> {
        ticket.left(now)?;
        // Cached with these authorities and revocation lists, and valid until the first of them
        // expires.
        let client = self.snapshot.tls().cached(ticket.certificate, now)?;
        Some(ClaimedClient {
            identity: Identity::named(client.claim()).ok()?,
            client,
            proof: ProofKind::Ticket,
            proven: ticket.proven,
        })
    }

    /// Returns the claim of a client that presents these certificates.
    ///
    /// # Errors
    ///
    /// The chain is not trusted, or its leaf does not name a client.
    fn claim_of(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClaimedClient, Rejection> {
        let client = self.snapshot.tls().identify(leaf, intermediates, now)?;
        let identity = Identity::named(client.claim());
        Ok(ClaimedClient {
            identity: identity.map_err(|error| Rejection::Identity(error.into()))?,
            client,
            proof: ProofKind::Certificate,
            proven: now,
        })
    }

    /// Refuses a client whose signature was not made by the certificate's key, or cannot be
    /// verified.
    fn unproven(&self, error: &rustls::Error) {
        let mut state = self.state.lock();
        if let VerifierState::Claimed(claim) = std::mem::take(&mut *state) {
            let is_wrong = matches!(error, rustls::Error::InvalidCertificate(_));
            *state = VerifierState::Refused(ClientRefusal {
                rejection: is_wrong.then_some(Rejection::KeyNotProven),
                client: Some(NamedClient::Claimed(claim.identity)),
            });
        }
    }
}

/// Issues and opens tickets: rustls calls this for each ticket that a client presents and for each
/// that it issues.
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
        // A ticket that would not be accepted later is not issued.
        ticket.left(now)?;
        tls.cached(ticket.certificate, now)?;
        tls.tickets().seal(ticket, session)
    }

    /// Opens a ticket and records its claim. A ticket is valid only if rustls finds, in addition,
    /// that it was issued for the same SNI name and that the client knows its secret. Otherwise,
    /// the claim of the certificate replaces this one.
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
        let (state, answer) = match self.claim_of(leaf, intermediates, now) {
            Ok(claim) => (
                VerifierState::Claimed(claim),
                Ok(ClientCertVerified::assertion()),
            ),
            Err(rejection) => {
                let error = if let Rejection::Untrusted(untrusted) = &rejection {
                    untrusted.alert()
                } else {
                    CertificateError::ApplicationVerificationFailure.into()
                };
                let refusal = ClientRefusal {
                    rejection: Some(rejection),
                    client: distrusted(leaf),
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

/// Returns what the certificate of a client claims that is refused because of it.
fn distrusted(leaf: &CertificateDer<'_>) -> Option<NamedClient> {
    if leaf.len() > trust::LARGEST_CHAIN {
        return None;
    }
    let client = DistrustedClient {
        identity: Identity::of(leaf).ok(),
        certificate: ClaimedCertificate::of(leaf)?,
    };
    Some(NamedClient::Distrusted(client.into()))
}

#[cfg(test)]
mod tests;
