//! The certificates of an authority and of those above it.

use pem::{Pem, encode};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::signature::issued;

/// An authority's certificate, followed by those of the authorities above it that are known.
#[derive(Debug)]
pub(crate) struct IssuerChain {
    certificates: Vec<CertificateDer<'static>>,
}

impl IssuerChain {
    /// Makes a chain of the first certificate and those of the others that issued it, in order; the
    /// rest are dropped.
    pub(crate) fn upwards(mut certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut path: Vec<_> = certificates.drain(..1).collect();
        while let Some(issuer) = path
            .last()
            .and_then(|last| certificates.iter().position(|other| issued(other, last)))
        {
            path.push(certificates.remove(issuer));
        }
        Self { certificates: path }
    }

    /// The authority's own certificate.
    pub(crate) fn own(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// All certificates, the authority's own first, each followed by its issuer's.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The certificates that are sent after a leaf, as PEM: all but a root, which peers either have
    /// or do not trust.
    pub(crate) fn intermediates_pem(&self) -> String {
        let sent = self.certificates.iter().filter(|der| !is_root(der));
        sent.map(|der| encode(&Pem::new("CERTIFICATE", der.as_ref())))
            .collect()
    }
}

/// Returns true if the certificate names itself as its issuer.
fn is_root(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, parsed)| parsed.issuer().as_raw() == parsed.subject().as_raw())
}
