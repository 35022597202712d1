//! The files that certificates and revocation lists come from.

use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use thiserror::Error;

/// The largest file of certificates or revocations that is read.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// Why authorities or revocations could not be loaded.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is far larger than any such file is.
    #[error("{path}: is larger than {LARGEST_FILE} bytes", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not whole PEM.
    #[error("{path}: is not whole PEM: {what}", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file has nothing of what it should have.
    #[error("{path}: holds no {what}", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A certificate in the file cannot be an authority.
    #[error("{path}: certificate {number} is not an authority's: {what}", path = .path.display())]
    NotAuthority {
        /// The file.
        path: PathBuf,
        /// Which certificate, counted from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A revocation list is broken, foreign or out of date.
    #[error("{path}: revocation list {number} {what}", path = .path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// Which list, counted from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Reads a file of PEM certificates: at least one, nothing else.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut certificates = Vec::new();
    for (kind, der) in sections(path)? {
        if kind != SectionKind::Certificate {
            return Err(foreign_section(path));
        }
        certificates.push(CertificateDer::from(der));
    }
    if certificates.is_empty() {
        return Err(TrustError::Empty {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(certificates)
}

/// The parts of a file of PEM.
pub(super) fn sections(path: &Path) -> Result<Vec<(SectionKind, Vec<u8>)>, TrustError> {
    let unreadable = |source| TrustError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST_FILE {
        return Err(TrustError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = fs::read(path).map_err(unreadable)?;
    <(SectionKind, Vec<u8>)>::pem_slice_iter(&text)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| TrustError::Pem {
            path: path.to_owned(),
            what: error.to_string(),
        })
}

/// A part of the file is none of what it is for.
pub(super) fn foreign_section(path: &Path) -> TrustError {
    TrustError::Pem {
        path: path.to_owned(),
        what: "it holds something else too".to_owned(),
    }
}
