//! Certificates, keys and lists from PEM, of which every line must be understood.

use std::path::Path;

use rcgen::KeyPair;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use strict_pem::PemSection;

use crate::error::CertgenError;

/// PEM label of certificates (RFC 7468, 5.1).
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

/// PEM label of revocation lists (RFC 7468, 6).
pub(crate) const LIST: &str = "X509 CRL";

/// Reads all sections of a text; `path` is named in errors.
pub(crate) fn read(text: &str, path: &Path) -> Result<Vec<PemSection>, CertgenError> {
    strict_pem::read(text.as_bytes()).map_err(|error| CertgenError::Pem {
        path: path.to_owned(),
        error,
    })
}

/// Reads the certificates in a text; fails if there are none.
pub(crate) fn certificates(
    text: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertgenError> {
    let found: Vec<CertificateDer<'static>> = read(text, path)?
        .into_iter()
        .filter(|section| section.label == CERTIFICATE)
        .map(|section| section.der.into())
        .collect();
    if found.is_empty() {
        return Err(unreadable(path, "certificate"));
    }
    Ok(found)
}

/// Reads the private key in a text; fails unless there is exactly one.
///
/// Other sections, like openssl's `EC PARAMETERS`, are ignored.
pub(crate) fn key(text: &str, path: &Path) -> Result<KeyPair, CertgenError> {
    let mut keys = read(text, path)?.into_iter().filter_map(private);
    match (keys.next(), keys.next()) {
        (Some(key), None) => KeyPair::try_from(&key).ok(),
        _ => None,
    }
    .ok_or_else(|| unreadable(path, "private key"))
}

fn private(section: PemSection) -> Option<PrivateKeyDer<'static>> {
    Some(match section.label.as_str() {
        "PRIVATE KEY" => PrivatePkcs8KeyDer::from(section.der).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(section.der).into(),
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(section.der).into(),
        _ => return None,
    })
}

/// Makes the error for a text without the expected content.
pub(crate) fn unreadable(path: &Path, what: &'static str) -> CertgenError {
    CertgenError::Unreadable {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, AuthoritySpec};

    const PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n\
                              -----END EC PARAMETERS-----\n";

    #[test]
    fn a_key_may_stand_behind_its_parameters() {
        let pair = KeyPair::generate().unwrap();
        let (pem, path) = (pair.serialize_pem(), Path::new("a.key"));
        let found = key(&format!("{PARAMETERS}{pem}"), path).unwrap();
        assert_eq!(found.serialize_der(), pair.serialize_der());
        for none in [PARAMETERS, "", &format!("{pem}{pem}")] {
            let refused = key(none, path);
            assert!(matches!(refused, Err(CertgenError::Unreadable { .. })));
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        let pem = authority.certificate_pem();
        let path = Path::new("ca.crt");
        assert_eq!(certificates(&format!("{pem}{pem}"), path).unwrap().len(), 2);
        let torn = &pem[..pem.len() / 2];
        for bad in [format!("junk\n{pem}"), format!("{pem}{torn}")] {
            let refused = certificates(&bad, path).unwrap_err();
            assert!(refused.to_string().starts_with("ca.crt:"), "{refused}");
        }
    }

    #[test]
    fn an_encrypted_key_says_that_it_is_encrypted() {
        let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n\
                    -----END ENCRYPTED PRIVATE KEY-----\n";
        let refused = key(text, Path::new("ca.key")).unwrap_err();
        assert!(refused.to_string().contains("is encrypted"), "{refused}");
    }
}
