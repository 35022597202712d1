//! Errors of this crate.

use std::io;
use std::path::{Path, PathBuf};

use strict_pem::PemError;
use thiserror::Error;

use crate::name::NameError;
use crate::serial::{CertificateSerial, RandomError};

/// Errors of making, reading and changing certificates, lists and their files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertgenError {
    /// A name that a certificate, or a file, may not have.
    #[error("the name {name:?} cannot be used")]
    Name {
        /// The name.
        name: String,
        /// The rule that it breaks.
        source: NameError,
    },
    /// A server without a name: clients could not verify it.
    #[error("a server certificate needs at least one DNS name or IP address")]
    NoNames,
    /// The end of a validity is not after its start, or one of them is outside of 1950 to 9999.
    #[error("the validity must end after it starts, between the years 1950 and 9999")]
    Validity,
    /// The authority's validity ends before the certificate's would start; the text is its end.
    #[error("the authority's certificate expired on {0}; make a new one with `certgen ca`")]
    AuthorityExpired(String),
    /// The authority's path length does not allow it to sign further authorities.
    #[error("the authority's path length allows no intermediate below it")]
    PathLength,
    /// The certificate that an authority was to be read from is not an authority's.
    #[error("{} is not the certificate of an authority", .0.display())]
    NotAnAuthority(PathBuf),
    /// The certificate and the private key do not belong together.
    #[error("{} and {} do not belong together", .certificate.display(), .key.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate or list without a valid signature of this authority.
    #[error("{} was not signed by this authority", .0.display())]
    Foreign(PathBuf),
    /// A certificate that is revoked and therefore not renewed.
    #[error("{} is revoked (serial {serial}); issue a new certificate instead", .path.display())]
    Revoked {
        /// The certificate's file.
        path: PathBuf,
        /// Its serial.
        serial: CertificateSerial,
    },
    /// The certificate is an authority's, which is neither renewed nor revoked here.
    #[error("{} is the certificate of an authority, not of a server or client", .0.display())]
    NotALeaf(PathBuf),
    /// The old certificate has contents that a renewal cannot copy.
    #[error("{} cannot be renewed: {what}", .path.display())]
    NotRenewable {
        /// The certificate's file.
        path: PathBuf,
        /// The part that cannot be copied.
        what: &'static str,
    },
    /// A file without the content that it should have.
    #[error("{} has no valid {what}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The content that was expected.
        what: &'static str,
    },
    /// The file of the revocation list has other sections, which signing it again would lose.
    #[error(
        "{} has other content besides the revocation list, which would be lost when the list is \
         signed; move that to another file",
        .0.display()
    )]
    NotAlone(PathBuf),
    /// A file with the name of a new one exists.
    #[error(
        "{} already exists; pass --force to replace it, or name another directory with --dir",
        .0.display()
    )]
    Exists(PathBuf),
    /// A device, a directory or a pipe, where a regular file is required.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A file that is not PEM from its beginning to its end.
    #[error("{}:{}: {}", .path.display(), .error.line, .error.fault)]
    Pem {
        /// The file.
        path: PathBuf,
        /// The fault and its line.
        error: PemError,
    },
    /// A file of more than 64 MiB.
    #[error("{} is larger than 64 MiB", .0.display())]
    TooLarge(PathBuf),
    /// A file of the authority's directory that another user may have placed there.
    #[error("refusing to use {}: it {what}", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// The fault, as a predicate such as `belongs to another user`.
        what: &'static str,
    },
    /// A line of the index that cannot be parsed.
    #[error("{}:{line}: malformed line of the index", .path.display())]
    IndexLine {
        /// The index's file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A change that an ended process began, and that cannot be finished now.
    #[error("cannot finish a change that an earlier command began in {}", .dir.display())]
    Unfinished {
        /// The authority's directory.
        dir: PathBuf,
        /// The error of the step that failed.
        source: Box<CertgenError>,
    },
    /// A path that is not UTF-8, so that the index or journal cannot hold it.
    #[error("the path {} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// A text that does not identify a certificate to revoke.
    #[error(
        "{0:?} is neither a file, nor a serial, nor the name of a certificate in the index; \
         a serial that the index does not have needs 16 digits or more, or --serial"
    )]
    UnknownTarget(String),
    /// A name whose certificates have all ended.
    #[error("no certificate of {0:?} is in force")]
    Ended(String),
    /// A name that more than one certificate in force has.
    #[error(
        "{name:?} has {} certificates in force; name one by its serial, \
         or pass --all to revoke them all:{}",
        .candidates.len(), lines(.candidates)
    )]
    Ambiguous {
        /// The name.
        name: String,
        /// The certificates, one a line.
        candidates: Vec<String>,
    },
    /// The number of the revocation list has reached its maximum.
    #[error("the number of the revocation list has reached its maximum")]
    CrlNumber,
    /// The random number generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The signing library reported an error.
    #[error("signing failed")]
    Sign(#[from] rcgen::Error),
    /// A file could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The operation, as an infinitive such as `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl CertgenError {
    /// Returns true if this is [`CertgenError::Io`] for a file that does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Returns a function that adds the name to the rule that it breaks.
    pub(crate) fn name(name: &str) -> impl FnOnce(NameError) -> Self {
        move |source| Self::Name {
            name: name.to_owned(),
            source,
        }
    }

    /// Returns a function that adds the operation and the file to an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Formats each item on a line of its own.
fn lines(items: &[String]) -> String {
    items
        .iter()
        .flat_map(|item| ["\n  ", item.as_str()])
        .collect()
}
