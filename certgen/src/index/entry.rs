//! One certificate in the index.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate_facts::CertificateFacts;
use crate::profile;
use crate::serial::CertificateSerial;

/// Record of one issued certificate, written when it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    pub(crate) serial: CertificateSerial,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) file: String,
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
    pub(crate) authority: String,
    pub(crate) replaces: Option<CertificateSerial>,
}

impl IndexEntry {
    /// Makes the entry of a certificate that this authority signed; `None` if one of the two
    /// certificates cannot be parsed.
    pub(crate) fn of(
        der: &CertificateDer<'_>,
        authority: &CertificateDer<'_>,
        file: &Path,
        replaces: Option<CertificateSerial>,
    ) -> Option<Self> {
        let facts = CertificateFacts::parse(der)?;
        let kind = match facts.usages() {
            [only] if only == "serverAuth" => "server",
            [only] if only == "clientAuth" => "client",
            _ => "other",
        };
        Some(Self {
            serial: facts.serial().clone(),
            name: facts.common_name().unwrap_or_default().to_owned(),
            kind: kind.to_owned(),
            file: file.display().to_string(),
            from: facts.not_before(),
            until: facts.not_after(),
            authority: authority_id(authority)?,
            replaces,
        })
    }
}

/// Identifies an authority by the hash of its public key, so that the entries of an earlier
/// authority in the same directory can be told apart.
pub(super) fn authority_id(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(profile::spki_hash(parsed.public_key().raw))
}
