//! The common name of a client, read from its verified certificate.
//!
//! Two programs can read different names from one certificate, even if a trusted authority signed
//! it: it may have several common names, an unusual string type, or another encoding. So only one
//! form is accepted. Everything else is refused, and nothing is corrected.
//!
//! ```
//! use tls::identity::CertificateIdentity;
//!
//! let authority = certgen::Authority::new(&certgen::AuthoritySpec::default())?;
//! let certificate = authority.client("billing")?.certificate_der();
//! let identity = CertificateIdentity::of(&certificate)?;
//! assert_eq!(identity.common_name(), "billing");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::der_parser::asn1_rs::{Any, Sequence, Tag, ToDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// Identity in a client's certificate: its common name as it is written, and the certificate's
/// [`Fingerprint`].
#[derive(Debug, Clone)]
pub struct CertificateIdentity {
    common_name: Arc<str>,
    fingerprint: Fingerprint,
}

/// SHA-256 hash of a DER encoding, which identifies a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Reason why a verified certificate does not identify a client
/// ([`CertificateIdentity::of`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The DER is not exactly one X.509 certificate.
    #[error("the certificate is malformed")]
    Unreadable,
    /// The certificate is an authority's (`basicConstraints`).
    #[error("the certificate is an authority's, not a client's")]
    Authority,
    /// The extended key usage is absent or lacks `clientAuth`, or the key usage lacks
    /// `digitalSignature` (RFC 5280, 4.2.1.3 and 4.2.1.12).
    #[error("the certificate is not for client authentication")]
    NotForClients,
    /// The subject has no common name.
    #[error("the subject has no common name")]
    NoName,
    /// The subject has more than one common name.
    #[error("the subject has several common names")]
    SeveralNames,
    /// The common name is not a `UTF8String` or `PrintableString`.
    #[error("the common name is neither a UTF8String nor a PrintableString")]
    StringType,
    /// The bytes do not fit the string type, or are not DER.
    #[error("the common name's bytes do not fit its string type, or are not DER")]
    Encoding,
}

impl CertificateIdentity {
    /// Reads the identity from a certificate.
    ///
    /// The caller has verified the chain. This checks only what the chain's verification does not:
    /// that the certificate is a client's leaf, and that it names exactly one client in exactly one
    /// way. The policy decides which texts are valid names.
    ///
    /// # Errors
    ///
    /// The certificate is not a client's, or does not have one common name in its only encoding.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
        if !rest.is_empty() {
            return Err(IdentityError::Unreadable);
        }
        require_client_leaf(&parsed)?;
        Ok(Self {
            common_name: common_name(&parsed)?,
            fingerprint: Fingerprint::of(certificate),
        })
    }

    /// Returns the common name.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// Returns the certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the same name with another fingerprint.
    #[cfg(test)]
    pub(crate) fn with_fingerprint(&self, fingerprint: Fingerprint) -> Self {
        let common_name = Arc::clone(&self.common_name);
        Self {
            common_name,
            fingerprint,
        }
    }
}

fn require_client_leaf(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| IdentityError::Unreadable)?;
    if constraints.is_some_and(|extension| extension.value.ca) {
        return Err(IdentityError::Authority);
    }
    let usage = certificate
        .key_usage()
        .map_err(|_| IdentityError::Unreadable)?;
    if usage.is_some_and(|extension| !extension.value.digital_signature()) {
        return Err(IdentityError::NotForClients);
    }
    let purposes = certificate
        .extended_key_usage()
        .map_err(|_| IdentityError::Unreadable)?;
    match purposes {
        Some(extension) if extension.value.client_auth => Ok(()),
        Some(_) | None => Err(IdentityError::NotForClients),
    }
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<Arc<str>, IdentityError> {
    let mut names = certificate.subject().iter_common_name();
    let only = names.next().ok_or(IdentityError::NoName)?;
    if names.next().is_some() {
        return Err(IdentityError::SeveralNames);
    }
    let name = Arc::from(text(only)?);
    if !is_written(certificate.subject().as_raw(), only) {
        return Err(IdentityError::Encoding);
    }
    Ok(name)
}

/// Returns true if a subject contains this attribute in its only DER encoding (X.690, 10 and 11).
///
/// The parser also accepts a class that is not universal and bytes after the value. Other programs
/// may read the same certificate in another way.
fn is_written(subject: &[u8], attribute: &AttributeTypeAndValue<'_>) -> bool {
    let value = attribute.attr_value();
    let value = Any::from_tag_and_data(value.header.tag(), value.data);
    let (Ok(kind), Ok(value)) = (attribute.attr_type().to_der_vec(), value.to_der_vec()) else {
        return false;
    };
    Sequence::new([kind, value].concat().into())
        .to_der_vec()
        .is_ok_and(|only| subject.windows(only.len()).any(|bytes| bytes == only))
}

fn text<'a>(attribute: &'a AttributeTypeAndValue<'_>) -> Result<&'a str, IdentityError> {
    let value = attribute.attr_value();
    if value.header.is_constructed() {
        return Err(IdentityError::Encoding);
    }
    match value.header.tag() {
        Tag::Utf8String => {}
        Tag::PrintableString if value.data.iter().all(|&byte| is_printable(byte)) => {}
        Tag::PrintableString => return Err(IdentityError::Encoding),
        _ => return Err(IdentityError::StringType),
    }
    std::str::from_utf8(value.data).map_err(|_| IdentityError::Encoding)
}

/// Returns true if the byte is in the alphabet of `PrintableString` (X.680, 41.4).
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

impl Fingerprint {
    /// Computes the fingerprint of a certificate or another DER encoding.
    ///
    /// # Panics
    ///
    /// Not in practice: the cryptography library has SHA-256, whose digests have 32 bytes.
    pub fn of(der: impl AsRef<[u8]>) -> Self {
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let hash = suite.tls13().expect("a TLS 1.3 suite").common.hash_provider;
        let digest = hash.hash(der.as_ref());
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns the hash.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Creates the fingerprint with this hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn first_byte(self) -> u8 {
        self.0[0]
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
