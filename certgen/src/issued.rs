//! A leaf that an authority signed, with its private key.

use std::fmt;
use std::sync::Arc;

use rcgen::{Certificate, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::CertgenError;
use crate::issuer_chain::IssuerChain;
use crate::paths::PairPaths;
use crate::serial::CertificateSerial;
use crate::store::{DraftFile, FileAccess};

/// A signed certificate and its private key, as [`Authority::issue`](crate::Authority::issue)
/// makes them. `Debug` does not show the key.
pub struct IssuedCertificate {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
    key_pem: String,
    serial: CertificateSerial,
    issuer: Arc<IssuerChain>,
}

impl IssuedCertificate {
    pub(crate) fn new(
        certificate: &Certificate,
        key: KeyPair,
        serial: CertificateSerial,
        issuer: Arc<IssuerChain>,
    ) -> Self {
        Self {
            issuer,
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key,
            serial,
        }
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PKCS #8 in PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate as DER.
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The private key as PKCS #8 in DER.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The serial, by which [`Authority::revoke`](crate::Authority::revoke) can revoke it.
    pub fn serial(&self) -> &CertificateSerial {
        &self.serial
    }

    /// The certificate as PEM, followed by the intermediate authorities that peers need.
    pub fn chain_pem(&self) -> String {
        format!(
            "{}{}",
            self.certificate_pem,
            self.issuer.intermediates_pem()
        )
    }

    /// Writes drafts of the key and the certificate for these two files.
    pub(crate) fn drafts(&self, files: &PairPaths) -> Result<(DraftFile, DraftFile), CertgenError> {
        let (key, certificate) = (&files.key, &files.certificate);
        Ok((
            DraftFile::new(key, &self.key_pem, FileAccess::Owner)?,
            DraftFile::new(certificate, &self.chain_pem(), FileAccess::Public)?,
        ))
    }

    /// The certificate of the authority that signed this one.
    pub(crate) fn issuer(&self) -> &CertificateDer<'static> {
        self.issuer.own()
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}
