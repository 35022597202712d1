//! Files of certificates and revocation lists.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use strict_pem::{PemError, PemSection};
use thiserror::Error;

use host::file;

/// Maximum size in bytes of a PEM file that is read.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// Error of a file of certificates, keys or revocation lists.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not PEM from its beginning to its end.
    #[error("{path}:{line}: {fault}", path = .path.display(), line = .error.line, fault = .error.fault)]
    Pem {
        /// The file.
        path: PathBuf,
        /// The fault and its line.
        error: PemError,
    },
    /// A section of the file is of a kind that is not allowed in it.
    #[error("{path}:{line}: a {label} does not belong in this file", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The section's line.
        line: usize,
        /// The section's kind.
        label: String,
    },
    /// The file has no section of the required kind.
    #[error("{path}: contains no {what}", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The required kind.
        what: &'static str,
    },
    /// A certificate in the file cannot be an authority.
    #[error("{path}:{line}: this certificate is not an authority's: {what}", path = .path.display())]
    NotAuthority {
        /// The file.
        path: PathBuf,
        /// The certificate's line.
        line: usize,
        /// Reason for the refusal.
        what: &'static str,
    },
    /// A revocation list is malformed, not supported, or not signed by an authority.
    #[error("{path}:{line}: this revocation list {what}", path = .path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// The list's line.
        line: usize,
        /// Reason for the refusal.
        what: &'static str,
    },
}

/// The label of certificates.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
/// The label of revocation lists.
pub(super) const REVOCATION_LIST: &str = "X509 CRL";

/// A certificate in a file.
#[derive(Debug, Clone)]
pub struct FileCertificate {
    /// Its bytes.
    pub der: CertificateDer<'static>,
    /// The line on which it begins.
    pub line: usize,
}

/// Reads a file of PEM certificates: at least one, and nothing else.
///
/// # Errors
///
/// A [`TrustError`] if the file cannot be read, is not PEM, has another section than a certificate,
/// or has none.
pub fn certificates(path: &Path) -> Result<Vec<FileCertificate>, TrustError> {
    let mut certificates = Vec::new();
    for section in sections(path)? {
        if section.label != CERTIFICATE {
            return Err(foreign(path, section));
        }
        certificates.push(FileCertificate {
            der: section.der.into(),
            line: section.line,
        });
    }
    if certificates.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(certificates)
}

/// Reads the sections of a PEM file, of any kind.
///
/// # Errors
///
/// A [`TrustError`] if the file cannot be read or is not PEM.
pub(crate) fn sections(path: &Path) -> Result<Vec<PemSection>, TrustError> {
    let unreadable = |source| TrustError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let text = file::read(path, LARGEST_FILE).map_err(unreadable)?;
    strict_pem::read(&text).map_err(|error| TrustError::Pem {
        path: path.to_owned(),
        error,
    })
}

/// Creates a [`TrustError::Foreign`] for a section of a kind that is not allowed in its file.
pub(crate) fn foreign(path: &Path, section: PemSection) -> TrustError {
    TrustError::Foreign {
        path: path.to_owned(),
        line: section.line,
        label: section.label,
    }
}
