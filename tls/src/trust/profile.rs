//! Checks of certificates and lists beyond the verification of a path (RFC 5280, 4 and 5).

use webpki::{KeyUsage, RequiredEkuNotFoundContext};
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_CRL_DISTRIBUTION_POINTS, OID_X509_EXT_CRL_NUMBER, OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
};
use x509_parser::prelude::{
    CertificateRevocationList, ParsedExtension, X509Certificate, X509Extension,
};
use x509_parser::public_key::PublicKey;

/// Maximum length of a serial number in bytes (RFC 5280, 4.1.2.2).
const LONGEST_SERIAL: usize = 20;
/// The critical extensions that are supported in an authority's certificate. Any other critical
/// extension demands something that would not be done.
const UNDERSTOOD: [Oid<'static>; 6] = [
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
];

/// Checks that a certificate can be an anchor for clients. The error is the reason why it cannot.
pub(super) fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    if certificate.subject().iter().next().is_none() {
        return Err("it has no name");
    }
    if certificate.extensions_map().is_err() {
        return Err("it has an extension twice");
    }
    for extension in certificate.extensions() {
        if matches!(
            extension.parsed_extension(),
            ParsedExtension::ParseError { .. }
        ) {
            return Err("it has a malformed extension");
        }
        if extension.critical && is_key_identifier(extension) {
            return Err("it has a critical key identifier");
        }
        if extension.critical && !UNDERSTOOD.contains(&extension.oid) {
            return Err("it has a critical extension that is not understood");
        }
    }
    if names_another_key(certificate) {
        return Err("it signs itself, and its authority key identifier is not its own");
    }
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
        && !bits(key.modulus).is_multiple_of(8)
    {
        return Err("the length of its RSA key is not a multiple of 8 bits");
    }
    let usage = certificate
        .key_usage()
        .map_err(|_| "its key usage is malformed")?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("its key usage lacks keyCertSign");
    }
    let purposes = certificate
        .extended_key_usage()
        .map_err(|_| "its extended key usage is malformed")?;
    if purposes.is_some_and(|purposes| !purposes.value.client_auth && !purposes.value.any) {
        return Err("its purposes lack clientAuth");
    }
    Ok(())
}

/// Checks the form of a certificate of a client's chain. The error is the reason why it is refused.
pub(super) fn check_shown(
    certificate: &X509Certificate<'_>,
    is_leaf: bool,
) -> Result<(), webpki::Error> {
    let serial = certificate.raw_serial();
    let is_positive =
        serial.first().is_some_and(|&first| first < 0x80) && serial.iter().any(|&byte| byte != 0);
    if !is_positive || serial.len() > LONGEST_SERIAL {
        return Err(webpki::Error::InvalidSerialNumber);
    }
    for extension in certificate.extensions() {
        if extension.critical && is_key_identifier(extension) {
            return Err(webpki::Error::UnsupportedCriticalExtension);
        }
        check_content(extension.parsed_extension(), is_leaf)?;
    }
    if !is_leaf {
        return Ok(());
    }
    if let Ok(Some(usage)) = certificate.key_usage()
        && usage.value.key_cert_sign()
    {
        return Err(webpki::Error::CaUsedAsEndEntity);
    }
    if let Ok(Some(purposes)) = certificate.extended_key_usage()
        && purposes.value.any
    {
        // A certificate for any purpose was not issued for clients in particular.
        let context = RequiredEkuNotFoundContext {
            required: KeyUsage::client_auth(),
            present: Vec::new(),
        };
        return Err(webpki::Error::RequiredEkuNotFoundContext(context));
    }
    Ok(())
}

/// Checks that an extension's content is supported. The error is the reason why it is not.
fn check_content(extension: &ParsedExtension<'_>, is_leaf: bool) -> Result<(), webpki::Error> {
    // Policy constraints have to be critical (4.2.1.11), and are not supported.
    if matches!(
        extension,
        ParsedExtension::ParseError { .. } | ParsedExtension::PolicyConstraints(_)
    ) {
        return Err(webpki::Error::ExtensionValueInvalid);
    }
    if let ParsedExtension::NameConstraints(names) = extension {
        // Only an authority can constrain, and only with at least one name (4.2.1.10).
        let is_empty = names.permitted_subtrees.is_none() && names.excluded_subtrees.is_none();
        if is_leaf || is_empty {
            return Err(webpki::Error::MalformedNameConstraint);
        }
    }
    Ok(())
}

/// Checks that this authority may sign the list, and the form of the list. The error is the reason
/// why the list is refused.
pub(super) fn check_list(
    list: &CertificateRevocationList<'_>,
    authority: &X509Certificate<'_>,
) -> Result<(), &'static str> {
    let usage = authority.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.crl_sign()) {
        return Err("is of an authority whose key usage lacks cRLSign");
    }
    for extension in list.extensions() {
        if matches!(
            extension.parsed_extension(),
            ParsedExtension::ParseError { .. }
        ) {
            return Err("has a malformed extension");
        }
        let must_not_be = extension.oid == OID_X509_EXT_CRL_NUMBER || is_key_identifier(extension);
        if extension.critical && must_not_be {
            return Err("has a critical number or key identifier");
        }
    }
    Ok(())
}

/// Returns true if a self-issued certificate has an authority key identifier that differs from its
/// subject key identifier.
fn names_another_key(certificate: &X509Certificate<'_>) -> bool {
    let (mut signer, mut own) = (None, None);
    for extension in certificate.extensions() {
        let content = extension.parsed_extension();
        if let ParsedExtension::AuthorityKeyIdentifier(id) = content {
            signer = id.key_identifier.as_ref();
        } else if let ParsedExtension::SubjectKeyIdentifier(id) = content {
            own = Some(id);
        }
    }
    let signs_itself = certificate.issuer().as_raw() == certificate.subject().as_raw();
    signs_itself && signer.is_some() && own.is_some() && signer != own
}

/// Returns the number of bits of a big-endian number, without leading zeros.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let number = &number[zeros..];
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    number.len() * 8 - unused as usize
}

fn is_key_identifier(extension: &X509Extension<'_>) -> bool {
    extension.oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER
        || extension.oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "certificates are issued for now")]
mod tests;
