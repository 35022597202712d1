//! What decides about one connection, in the middle of its handshake.

use std::sync::Arc;

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
use crate::rejection::Rejection;
use crate::running::{Permit, Running};
use crate::ticket::Ticket;
use crate::trust::memory::Key;

/// The suites that are spoken here (RFC 8446, B.4).
const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Decides about one connection, in the middle of its handshake.
///
/// Made after the `ClientHello`, it knows where the client wants to go when it learns who the client
/// is, so that a client who may not is told so by the handshake itself. Every refusal by the policy
/// looks the same from outside.
#[derive(Debug)]
pub struct Verifier {
    running: Arc<Running>,
    destination: Destination,
    alpn: Option<Vec<u8>>,
    /// Whether the client's processor is better at `ChaCha20` than at AES, as its order of suites says.
    prefers_chacha: bool,
    verdict: Mutex<Verdict>,
    claim: Mutex<Option<Identity>>,
}

/// What was decided about a connection, and by which proof.
#[derive(Debug, Default)]
enum Verdict {
    #[default]
    None,
    /// The client may, if it is who the ticket or the certificate says.
    Allowed {
        permit: Permit,
        proof: Proof,
        chain: Key,
        /// When the client last proved that it has the certificate's key.
        proven: UnixTime,
    },
    Refused(Rejection),
}

/// What a client shows for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Certificate,
    Ticket,
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
    /// ALPN is answered before the client is known, so the answer must not depend on the name that
    /// it asks for, or anybody could probe which groups exist: it is the client's first protocol
    /// that *any* group speaks. Whether the group speaks it is asked with the permit.
    pub fn new(running: Arc<Running>, hello: &ClientHello<'_>, port: u16) -> Arc<Self> {
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        let alpn = hello
            .alpn()
            .and_then(|mut offers| offers.find(|offer| running.policy().speaks(offer)))
            .map(<[u8]>::to_vec);
        let first = hello
            .cipher_suites()
            .iter()
            .find(|one| SUITES.contains(one));
        let prefers_chacha = first == Some(&CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let destination = Destination { sni, port };
        Arc::new(Self {
            running,
            destination,
            alpn,
            prefers_chacha,
            verdict: Mutex::default(),
            claim: Mutex::new(None),
        })
    }

    /// The rustls configuration that asks this verifier.
    pub fn configuration(self: &Arc<Self>) -> Arc<ServerConfig> {
        Arc::new(self.running.tls().configuration(self))
    }

    /// Where the client wants to go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The generation of the policy that decides.
    pub fn generation(&self) -> u64 {
        self.running.generation()
    }

    /// The protocol that ALPN agrees on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// Whether the client's processor is better at `ChaCha20` than at AES.
    pub(crate) fn prefers_chacha(&self) -> bool {
        self.prefers_chacha
    }

    /// The client's permit, once a handshake of this kind is over.
    ///
    /// It can be taken once. It is worth something only after the handshake has proven that the client has
    /// the certificate's key, or the secret of the ticket: ask for it then and not before.
    pub fn take_permit(&self, handshake: HandshakeKind) -> Result<Permit, Rejection> {
        let expected = match handshake {
            HandshakeKind::Resumed => Proof::Ticket,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => Proof::Certificate,
        };
        match std::mem::take(&mut *self.verdict.lock()) {
            Verdict::Allowed { permit, proof, .. } if proof == expected => Ok(permit),
            Verdict::Refused(rejection) => Err(rejection),
            Verdict::Allowed { .. } | Verdict::None => Err(Rejection::NoCertificate),
        }
    }

    /// Why the client was refused, if it was the verifier that did.
    pub fn take_refusal(&self) -> Option<Rejection> {
        match std::mem::take(&mut *self.verdict.lock()) {
            Verdict::Refused(rejection) => Some(rejection),
            Verdict::Allowed { .. } | Verdict::None => None,
        }
    }

    /// Whom the certificate names of a client that the policy refused. The client never got to prove
    /// that it holds the certificate's key: this is what it claims, not who it is.
    pub fn take_claim(&self) -> Option<Identity> {
        self.claim.lock().take()
    }

    fn decide(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(Permit, Key), Rejection> {
        let tls = self.running.tls();
        let (identity, chain) = tls.identify(leaf, intermediates, now)?;
        match self.permit(&identity) {
            Ok(permit) => Ok((permit, chain)),
            Err(rejection) => {
                *self.claim.lock() = Some(identity);
                Err(rejection)
            }
        }
    }

    fn permit(&self, identity: &Identity) -> Result<Permit, Rejection> {
        let permit = self
            .running
            .authorize(identity.clone(), &self.destination)?;
        match &self.alpn {
            Some(chosen) if !permit.group().alpn.contains(chosen) => Err(Rejection::Protocol),
            Some(_) | None => Ok(permit),
        }
    }

    /// What a ticket of this connection says.
    fn ticket(&self) -> Option<Ticket> {
        match &*self.verdict.lock() {
            Verdict::Allowed {
                permit,
                chain,
                proven,
                ..
            } => Some(Ticket {
                proven: *proven,
                chain: *chain,
                group: Arc::clone(&permit.group().name),
            }),
            Verdict::Refused(_) | Verdict::None => None,
        }
    }

    /// Decides about a client that comes with a ticket as if it had shown its certificate. Whoever would be
    /// refused has to show it.
    fn resume(&self, ticket: &Ticket, now: UnixTime) -> Option<Verdict> {
        ticket.left(now)?;
        // Known by this chain under these authorities and revocations, and until the first of them ends.
        let identity = self.running.tls().recall(ticket.chain, now)?;
        let permit = self.permit(&identity).ok()?;
        (permit.group().name == ticket.group).then_some(Verdict::Allowed {
            permit,
            proof: Proof::Ticket,
            chain: ticket.chain,
            proven: ticket.proven,
        })
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
        let (tls, now) = (self.running.tls(), UnixTime::now());
        // One that would not be taken back is not given.
        ticket.left(now)?;
        tls.recall(ticket.chain, now)?;
        tls.tickets().seal(&ticket, session)
    }

    /// A ticket is good only if rustls finds, in addition, that it was given for the same SNI name and that
    /// the client knows its secret. If it does not, the certificate's verdict takes the place of this one.
    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (ticket, session) = self.running.tls().tickets().open(sealed)?;
        *self.verdict.lock() = self.resume(&ticket, UnixTime::now())?;
        Some(session)
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.running.tls().trust().subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (verdict, answer) = match self.decide(leaf, intermediates, now) {
            Ok((permit, chain)) => {
                let verdict = Verdict::Allowed {
                    permit,
                    proof: Proof::Certificate,
                    chain,
                    proven: now,
                };
                (verdict, Ok(ClientCertVerified::assertion()))
            }
            Err(rejection) => {
                let error = if let Rejection::Untrusted(untrusted) = &rejection {
                    untrusted.alert()
                } else {
                    CertificateError::ApplicationVerificationFailure.into()
                };
                (Verdict::Refused(rejection), Err(error))
            }
        };
        *self.verdict.lock() = verdict;
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
        let algorithms = self.running.tls().algorithms();
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.running.tls().algorithms().supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certgen::{Authority, AuthoritySpec, Overwrite};
    use lb::LoadBalancer;
    use tempfile::TempDir;

    use super::*;
    use crate::policy::Policy;
    use crate::tls::Tls;

    const POLICY: &str = "version: 1
gateway:
  listen: ['127.0.0.1:8443']
  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
groups:
  db: {upstreams: ['127.0.0.1:1'], health: {check: off}}
clients:
  alice: {groups: [db]}
";

    /// A verifier for a connection to `db`, and the chain of alice, who has been there.
    fn verifier() -> (TempDir, Verifier, Key) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let own = authority.server(&["gateway"]).unwrap();
        own.save(dir.path(), "server", Overwrite::Refuse).unwrap();
        let policy = Policy::parse("policy.yaml", POLICY).unwrap();
        let now = UnixTime::now();
        let tls = Tls::load(&policy.gateway().tls, dir.path(), now).unwrap();
        let leaf = authority.client("alice").unwrap().certificate_der();
        let (_, chain) = tls.identify(&leaf, &[], now).unwrap();
        let balancer = LoadBalancer::new(lb::Config::default());
        let verifier = Verifier {
            running: Arc::new(Running::first(policy, Arc::new(tls), &balancer)),
            destination: Destination {
                sni: Some("db".to_owned()),
                port: 8443,
            },
            alpn: None,
            prefers_chacha: false,
            verdict: Mutex::default(),
            claim: Mutex::new(None),
        };
        (dir, verifier, chain)
    }

    #[test]
    fn tickets_of_resumed_clients_end_with_the_first() {
        let (_dir, verifier, chain) = verifier();
        let proven = UnixTime::now();
        let first = Ticket {
            proven,
            chain,
            group: "db".into(),
        };
        let after = |seconds| {
            let since = Duration::from_secs(proven.as_secs() + seconds);
            UnixTime::since_unix_epoch(since)
        };
        *verifier.verdict.lock() = verifier.resume(&first, after(3599)).unwrap();
        assert_eq!(verifier.ticket(), Some(first.clone()), "another like it");
        assert!(verifier.resume(&first, after(3600)).is_none());
    }

    #[test]
    fn a_permit_is_worth_nothing_after_a_handshake_that_proved_something_else() {
        let (_dir, verifier, chain) = verifier();
        let ticket = Ticket {
            proven: UnixTime::now(),
            chain,
            group: "db".into(),
        };
        let resume = || verifier.resume(&ticket, UnixTime::now()).unwrap();
        *verifier.verdict.lock() = resume();
        assert!(verifier.take_permit(HandshakeKind::Full).is_err());
        *verifier.verdict.lock() = resume();
        assert!(verifier.take_permit(HandshakeKind::Resumed).is_ok());
        assert!(
            verifier.take_permit(HandshakeKind::Resumed).is_err(),
            "once"
        );
    }
}
