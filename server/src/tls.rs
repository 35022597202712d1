//! rustls configuration: TLS 1.3, client certificate required, the verifier of one connection.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use thiserror::Error;

use crate::identity::Identity;
use crate::policy::TlsFiles;
use crate::rejection::Rejection;
use crate::running::{Permit, Running};
use crate::trust::memory::{Key, Memory};
use crate::trust::{self, Trust, TrustError};

/// The suites that are spoken here (RFC 8446, B.4).
const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// The gateway's own certificate and whom it believes, as loaded at one moment.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    certificate: Arc<SingleCertAndKey>,
    leaf: CertificateDer<'static>,
    trust: Trust,
    memory: Memory,
}

/// Why the TLS files could not be loaded.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file of certificates or revocations is no good.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The private key cannot be read.
    #[error("{path}: no private key can be read: {what}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The private key is not the certificate's.
    #[error("{key}: is not the key of {certificate}: {what}")]
    Mismatch {
        /// The key's file.
        key: String,
        /// The certificate's file.
        certificate: String,
        /// What rustls said.
        what: rustls::Error,
    },
}

impl Tls {
    /// Loads certificate, key, authorities and revocations; relative paths start at `base`.
    pub fn load(files: &TlsFiles, base: &Path, now: UnixTime) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let chain = trust::certificates(&base.join(&files.certificate))?;
        let leaf = chain[0].clone();
        let path = base.join(&files.key);
        let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| TlsError::Key {
            path: path.display().to_string(),
            what: error.to_string(),
        })?;
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|what| {
            let certificate = base.join(&files.certificate).display().to_string();
            TlsError::Mismatch {
                key: path.display().to_string(),
                certificate,
                what,
            }
        })?;
        let lists: Vec<_> = files.crl.iter().map(|list| base.join(list)).collect();
        let authorities = base.join(&files.client_ca);
        let trust = Trust::load(&authorities, &lists, files.expired_crl, now)?;
        Ok(Self {
            provider,
            certificate: Arc::new(SingleCertAndKey::from(certified)),
            leaf,
            trust,
            memory: Memory::default(),
        })
    }

    /// Whom the gateway believes.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The gateway's own certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// Who a client is whose chain is good. A chain that was good a while ago is not looked at again.
    fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Identity, Rejection> {
        trust::bound(leaf, intermediates).map_err(Rejection::Untrusted)?;
        let key = Key::of(leaf, intermediates);
        if let Some(identity) = self.memory.recall(key, now) {
            return Ok(identity);
        }
        self.trust
            .verify(leaf, intermediates, now)
            .map_err(Rejection::Untrusted)?;
        let identity = Identity::of(leaf).map_err(Rejection::Identity)?;
        if let Some(until) = self.trust.holds_until(leaf, intermediates, now) {
            self.memory.keep(key, identity.clone(), now, until);
        }
        Ok(identity)
    }

    /// The configuration of one connection, with the verifier that decides about it.
    ///
    /// There are no tickets and no session storage, so that no connection gets by its verifier.
    fn configuration(&self, verifier: Arc<Verifier>) -> ServerConfig {
        let alpn = verifier.alpn.clone();
        let client_prefers_chacha = verifier.prefers_chacha;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.certificate) as Arc<dyn ResolvesServerCert>);
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        // For `record_layer`, which goes on where rustls ends.
        config.enable_secret_extraction = true;
        config.alpn_protocols = alpn.into_iter().collect();
        // In the order of `provider`, which begins with what processors do best.
        config.ignore_client_order = !client_prefers_chacha;
        config
    }
}

/// The suites and key exchanges that are spoken here. Of the suites the first that the client speaks is
/// taken: processors have instructions for AES and SHA-256, and few have them for SHA-384, with which
/// half of the clients would begin.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..default_provider()
    }
}

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
    verdict: Mutex<Option<Result<Permit, Rejection>>>,
    claim: Mutex<Option<Identity>>,
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
            verdict: Mutex::new(None),
            claim: Mutex::new(None),
        })
    }

    /// The rustls configuration that asks this verifier.
    pub fn configuration(self: &Arc<Self>) -> Arc<ServerConfig> {
        Arc::new(self.running.tls().configuration(Arc::clone(self)))
    }

    /// Where the client wants to go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The generation of the policy that decides.
    pub fn generation(&self) -> u64 {
        self.running.generation()
    }

    /// What was decided, once the handshake is over.
    ///
    /// It can be taken once. A permit is worth something only after the handshake has proven that
    /// the client holds the certificate's key: ask for it then and not before.
    pub fn take_verdict(&self) -> Option<Result<Permit, Rejection>> {
        self.verdict.lock().take()
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
    ) -> Result<Permit, Rejection> {
        let tls = self.running.tls();
        let identity = tls.identify(leaf, intermediates, now)?;
        self.permit(&identity)
            .inspect_err(|_| *self.claim.lock() = Some(identity))
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
        let verdict = self.decide(leaf, intermediates, now);
        let answer = match &verdict {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(Rejection::Untrusted(untrusted)) => Err(untrusted.alert()),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        *self.verdict.lock() = Some(verdict);
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
        let algorithms = &self
            .running
            .tls()
            .provider
            .signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.running
            .tls()
            .provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use certgen::{Authority, AuthoritySpec, Overwrite};
    use tempfile::TempDir;
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::policy::ExpiredCrl;

    /// The gateway's side, with a revocation list that is to have a successor in an hour, and a client's
    /// certificate.
    fn tls(expired_crl: ExpiredCrl) -> (TempDir, Tls, CertificateDer<'static>) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let own = authority.server(&["localhost"]).unwrap();
        own.save(dir.path(), "server", Overwrite::Refuse).unwrap();
        let now = OffsetDateTime::now_utc();
        let list = authority.crl(&[], now, now + Duration::hours(1), 1);
        std::fs::write(dir.path().join("ca.crl"), list.unwrap().pem()).unwrap();
        let files = TlsFiles {
            certificate: "server.crt".into(),
            key: "server.key".into(),
            client_ca: "ca.crt".into(),
            crl: vec!["ca.crl".into()],
            expired_crl,
        };
        let tls = Tls::load(&files, dir.path(), UnixTime::now()).unwrap();
        let leaf = authority.client("alice").unwrap().certificate_der();
        (dir, tls, leaf)
    }

    /// So many seconds from now.
    fn after(seconds: i64) -> UnixTime {
        let now = UnixTime::now().as_secs().checked_add_signed(seconds);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unwrap()))
    }

    const HOUR: i64 = 60 * 60;
    const YEAR: i64 = 365 * 24 * HOUR;

    #[test]
    fn a_chain_that_was_good_is_refused_before_and_after_its_time() {
        for (expired_crl, good, bad) in [
            (ExpiredCrl::Refuse, HOUR / 2, 2 * HOUR),
            (ExpiredCrl::Accept, 2 * HOUR, 50 * YEAR),
        ] {
            let (_dir, tls, leaf) = tls(expired_crl);
            for _ in 0..2 {
                for seconds in [1, good] {
                    let identity = tls.identify(&leaf, &[], after(seconds)).unwrap();
                    assert_eq!(identity.name().as_str(), "alice");
                }
                for seconds in [-YEAR, bad] {
                    let refused = tls.identify(&leaf, &[], after(seconds)).unwrap_err();
                    assert!(matches!(refused, Rejection::Untrusted(_)), "{refused}");
                }
            }
        }
    }

    #[test]
    fn what_is_shown_behind_a_good_leaf_is_bounded_all_the_same() {
        let (_dir, tls, leaf) = tls(ExpiredCrl::Refuse);
        tls.identify(&leaf, &[], after(1)).unwrap();
        let junk = vec![leaf.clone(); trust::MOST_INTERMEDIATES + 1];
        assert!(tls.identify(&leaf, &junk, after(1)).is_err());
    }
}
