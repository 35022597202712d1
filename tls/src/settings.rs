//! The gateway's TLS settings: TLS 1.3 only, with a required client certificate.

use std::path::Path;
use std::sync::Arc;

use ring::hmac;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use thiserror::Error;

use crate::dated_item::DatedItem;
use crate::faults::{TlsError, TlsFault, TlsFaults};
use crate::files::{SettingsFile, SettingsFiles, SettingsFinding};
use crate::identity::{CertificateIdentity, Fingerprint, IdentityError};
use crate::own_certificate::{OwnCertificate, private_key};
use crate::suites::{CipherOrder, provider};
use crate::ticket::TicketKeys;
use crate::trust::chain_cache::{CachedChain, VerifiedChainCache};
use crate::trust::{self, ClientTrust, UntrustedChain};

/// The gateway's own certificate and the client authorities that it trusts ([`ClientTrust`]), as
/// loaded at one moment.
#[derive(Debug)]
pub struct TlsSettings {
    provider: Arc<CryptoProvider>,
    certificate: Arc<SingleCertAndKey>,
    own: OwnCertificate,
    trust: ClientTrust,
    chain_cache: Arc<VerifiedChainCache>,
    tickets: TicketKeys,
    alpn_key: hmac::Key,
}

/// A client named by a certificate whose chain is trusted. It has not proven yet that it has the
/// certificate's key.
#[derive(Debug)]
pub struct IdentifiedClient {
    identity: CertificateIdentity,
    certificates_end: UnixTime,
    /// Entry for the cache of verified chains; `None` if it came from there.
    fresh: Option<CachedChain>,
}

/// Reason why [`TlsSettings::identify`] names no client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentifyError {
    /// The certificate's chain is not trusted.
    #[error(transparent)]
    Untrusted(#[from] UntrustedChain),
    /// The certificate is trusted but does not identify a client.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl IdentifiedClient {
    /// Returns the identity that the client claims.
    pub fn claim(&self) -> &CertificateIdentity {
        &self.identity
    }

    /// Returns the time at which the first certificate on the chain's path expires.
    pub fn certificates_end(&self) -> UnixTime {
        self.certificates_end
    }

    /// Creates the client of a cached chain.
    fn known(known: CachedChain) -> Self {
        Self {
            identity: known.identity,
            certificates_end: known.certificates_end,
            fresh: None,
        }
    }
}

impl TlsSettings {
    /// Loads certificate, key, authorities and revocation lists.
    ///
    /// # Errors
    ///
    /// One fault for each file that is not valid, or whose certificates are not valid at the time
    /// `now`.
    pub fn load(files: &SettingsFiles, now: UnixTime) -> Result<Self, Vec<TlsFault>> {
        let tls = Self::read(files)?;
        tls.check_dates(files, None, now)?;
        Ok(tls)
    }

    /// Loads the successor of these settings, which keeps the cache and the ticket keys if the
    /// certificate and the authorities are the same.
    ///
    /// Certificates that are already in force may have expired: a policy that takes a right from a
    /// client must not wait for a new certificate. But no expired certificate, and no older
    /// revocation list, replaces one that is in force.
    ///
    /// # Errors
    ///
    /// One fault for each file that is not valid, that is out of date and new, or that holds an
    /// older revocation list.
    pub fn load_next(&self, files: &SettingsFiles, now: UnixTime) -> Result<Self, Vec<TlsFault>> {
        let mut next = Self::read(files)?;
        next.check_dates(files, Some(self), now)?;
        let mut faults = TlsFaults::default();
        faults.note(SettingsFile::List(0), next.trust.follow(&self.trust));
        faults.found()?;
        Ok(next.reusing(self))
    }

    fn check_dates(
        &self,
        files: &SettingsFiles,
        former: Option<&Self>,
        now: UnixTime,
    ) -> Result<(), Vec<TlsFault>> {
        let mut faults = TlsFaults::default();
        let is_new = former.is_none_or(|former| former.leaf() != self.leaf());
        if let Some(what) = self.own.lapse(now).filter(|_| is_new) {
            let path = files.certificate.clone();
            let lapsed = Err(TlsError::Own { path, what });
            faults.note::<()>(SettingsFile::Certificate, lapsed);
        }
        let former = former.map(|former| &former.trust);
        if !self.trust.check_dates(former, now) {
            let lapsed = Err(TlsError::NoneInDate(files.client_ca.clone()));
            faults.note::<()>(SettingsFile::ClientCa, lapsed);
        }
        faults.found()
    }

    /// Reads the files, whatever their dates.
    ///
    /// # Errors
    ///
    /// One fault for each file that is not valid.
    pub fn read(files: &SettingsFiles) -> Result<Self, Vec<TlsFault>> {
        let provider = Arc::new(provider());
        let mut faults = TlsFaults::default();
        let own = faults.note(
            SettingsFile::Certificate,
            own_certificate(&files.certificate),
        );
        let key = faults.note(SettingsFile::Key, private_key(&files.key));
        let tickets = TicketKeys::new().map_err(TlsError::Random);
        let tickets = faults.note(SettingsFile::Key, tickets);
        let trust = ClientTrust::load(&files.client_ca, &files.lists, files.expired_lists);
        let trust = trust.map_err(|found| {
            for (file, error) in found {
                faults.note::<()>(file, Err(error));
            }
        });
        let own = own.zip(key).and_then(|((own, chain), key)| {
            let imitation = alpn_key(&key);
            let certified = CertifiedKey::from_der(chain, key, &provider);
            let certified = certified.map_err(|what| TlsError::Mismatch {
                key: files.key.display().to_string(),
                certificate: files.certificate.display().to_string(),
                what,
            });
            let certified = faults.note(SettingsFile::Key, certified)?;
            Some((own, certified, imitation))
        });
        match (own, trust, tickets) {
            (Some((own, certified, imitation)), Ok(trust), Some(tickets)) => Ok(Self {
                provider,
                certificate: Arc::new(SingleCertAndKey::from(certified)),
                own,
                trust,
                chain_cache: Arc::default(),
                tickets,
                alpn_key: imitation,
            }),
            _ => Err(faults.0),
        }
    }

    /// Takes over the cache of verified chains and the ticket keys of `former`, if both have the
    /// same certificate, authorities and revocation lists.
    #[must_use]
    fn reusing(mut self, former: &Self) -> Self {
        if self.leaf() == former.leaf() && self.trust.is_the_same(&former.trust) {
            self.chain_cache = Arc::clone(&former.chain_cache);
            self.tickets = former.tickets.clone();
        }
        self
    }

    /// Returns the client authorities that are trusted, and their revocation lists.
    pub fn trust(&self) -> &ClientTrust {
        &self.trust
    }

    /// Returns the gateway's own certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        self.own.leaf()
    }

    /// Returns the warnings about the files now, except that something ends; see
    /// [`TlsSettings::dated`].
    pub fn warnings(&self, now: UnixTime) -> Vec<SettingsFinding> {
        let mut findings = self.own.warnings(&self.trust);
        findings.extend(self.trust.warnings(now));
        findings
    }

    /// Returns all certificates and effective revocation lists, with the dates on which they end.
    pub fn dated(&self) -> Vec<DatedItem> {
        let mut dated = self.own.dated().to_vec();
        dated.extend(self.trust.dated());
        dated
    }

    /// Returns a test for names: true if clients that ask for the name accept the gateway's
    /// certificate. A name may begin with `*.`, which is then checked as one label.
    pub fn certificate_names(&self) -> impl Fn(&str) -> bool + use<'_> {
        self.own.names()
    }

    /// Verifies a client's chain and returns the client that it names. A cached chain is not
    /// verified again.
    ///
    /// # Errors
    ///
    /// The chain is too large or not trusted, or its leaf does not name a client.
    pub fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<IdentifiedClient, IdentifyError> {
        trust::bound(leaf, intermediates)?;
        if let Some(known) = self.chain_cache.get_chain(leaf, intermediates, now) {
            return Ok(IdentifiedClient::known(known));
        }
        let verified = self.trust.verify(leaf, intermediates, now)?;
        let identity = CertificateIdentity::of(leaf)?;
        let path = verified.intermediates.iter();
        let fresh = Some(CachedChain {
            identity: identity.clone(),
            path: path.map(Fingerprint::of).collect(),
            since: now,
            until: verified.holds_until(),
            certificates_end: verified.certificates_end,
        });
        Ok(IdentifiedClient {
            identity,
            certificates_end: verified.certificates_end,
            fresh,
        })
    }

    /// Returns the client of a cached chain, if verifying it now would succeed again.
    pub fn cached(&self, leaf: Fingerprint, now: UnixTime) -> Option<IdentifiedClient> {
        self.chain_cache.get(leaf, now).map(IdentifiedClient::known)
    }

    /// Caches the chain of a client that has proven its identity. It must not be called before:
    /// certificates are not secret, and an attacker could fill the cache with those of others.
    pub fn cache(&self, proven: IdentifiedClient) {
        match proven.fresh {
            Some(known) => self.chain_cache.insert(known),
            None => self.chain_cache.touch(proven.identity.fingerprint()),
        }
    }

    /// Returns the number of cached chains.
    pub fn cached_chains(&self) -> usize {
        self.chain_cache.len()
    }

    /// Returns a pseudorandom rank of a list of application protocols for a name and a port that
    /// lead to no group. It cannot be predicted without the gateway's key, and is the same in all
    /// processes that have the key.
    ///
    /// # Panics
    ///
    /// Not in practice: an HMAC with SHA-256 has 32 bytes.
    pub fn rank(&self, name: Option<&str>, port: u16, protocols: &[Vec<u8>]) -> u64 {
        let mut context = hmac::Context::with_key(&self.alpn_key);
        match name {
            Some(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                context.update(&name.len().to_be_bytes());
                context.update(name.as_bytes());
            }
            None => context.update(&port.to_be_bytes()),
        }
        for protocol in protocols {
            context.update(&protocol.len().to_be_bytes());
            context.update(protocol);
        }
        let tag = context.sign();
        let rank = tag.as_ref().first_chunk().copied();
        u64::from_be_bytes(rank.expect("a hash of 32 bytes"))
    }

    /// Returns the ticket keys.
    pub fn tickets(&self) -> &TicketKeys {
        &self.tickets
    }

    /// Returns the algorithms that verify the signatures of handshakes.
    pub fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    /// Creates the rustls configuration of one connection, with the verifier of its client and the
    /// application protocols of its destination.
    ///
    /// `ticketer` issues and accepts the tickets. It has to ask the verifier, so that no connection
    /// bypasses it. There is no other session storage and no early data.
    ///
    /// # Panics
    ///
    /// Not in practice: the cryptography library has suites for TLS 1.3.
    pub fn configuration(
        &self,
        verifier: Arc<dyn ClientCertVerifier>,
        ticketer: Arc<dyn ProducesTickets>,
        protocols: Vec<Vec<u8>>,
        order: CipherOrder,
    ) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.certificate) as Arc<dyn ResolvesServerCert>);
        config.ticketer = ticketer;
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        // For `record_layer`, which takes over after the handshake.
        config.enable_secret_extraction = true;
        config.alpn_protocols = protocols;
        config.ignore_client_order = order == CipherOrder::Gateway;
        config
    }
}

/// Reads the gateway's own certificate and its chain.
fn own_certificate(
    path: &Path,
) -> Result<(OwnCertificate, Vec<CertificateDer<'static>>), TlsError> {
    let chain = trust::certificates(path)?;
    let chain: Vec<_> = chain.into_iter().map(|one| one.der).collect();
    let own = OwnCertificate::new(chain.clone()).map_err(|what| TlsError::Own {
        path: path.to_owned(),
        what,
    })?;
    Ok((own, chain))
}

/// Derives a secret from the private key, so that all processes with this key give the same answers
/// for names that lead to no group.
fn alpn_key(key: &PrivateKeyDer<'_>) -> hmac::Key {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
    let secret = hmac::sign(&key, b"portcullis application protocols");
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "certificates are issued for now")]
mod tests;
