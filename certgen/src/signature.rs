//! Which authority signed a certificate, and whose key a certificate has.

use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Returns true if the leaf names this authority as its issuer and has its signature.
pub(crate) fn signed_by(leaf: &X509Certificate<'_>, authority: &X509Certificate<'_>) -> bool {
    leaf.issuer().as_raw() == authority.subject().as_raw()
        && leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// Returns true if the first certificate is the issuer of the second; see [`signed_by`].
pub(crate) fn issued(issuer: &CertificateDer<'_>, der: &CertificateDer<'_>) -> bool {
    match (
        X509Certificate::from_der(issuer),
        X509Certificate::from_der(der),
    ) {
        (Ok((_, issuer)), Ok((_, below))) => signed_by(&below, &issuer),
        _ => false,
    }
}

/// Returns true if the authority with this certificate signed the leaf; false for an authority's
/// certificate.
pub(crate) fn signed_leaf(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    match (
        X509Certificate::from_der(leaf),
        X509Certificate::from_der(authority),
    ) {
        (Ok((_, leaf)), Ok((_, authority))) => !leaf.is_ca() && signed_by(&leaf, &authority),
        _ => false,
    }
}

/// Returns true if the certificate's public key is that of this key pair.
pub(crate) fn belongs(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info())
}
