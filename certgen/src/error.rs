//! What can go wrong between a wish for a certificate and the file.

use std::io;
use std::path::{Path, PathBuf};

use strict_pem::PemError;
use thiserror::Error;

use crate::name::NameError;
use crate::serial::CertificateSerial;

/// Why no certificate, list or file came out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertgenError {
    /// A name that no certificate, or no file, may carry.
    #[error("the name {name:?} cannot be used")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// A server without a name: nobody could verify it.
    #[error("a server certificate needs at least one DNS name or IP address")]
    NoNames,
    /// The end of a validity does not come after its start, or lies outside 1950 to 9999.
    #[error("the validity must end after it starts, between the years 1950 and 9999")]
    Validity,
    /// The authority ends before the certificate would start.
    #[error("the authority's own certificate ended on {0}; make a new one with `certgen ca`")]
    AuthorityExpired(String),
    /// An authority that may not sign further authorities was asked to.
    #[error("the authority's path length allows no intermediate below it")]
    PathLength,
    /// The certificate of an authority is not one of an authority.
    #[error("{} is not the certificate of an authority", .0.display())]
    NotAnAuthority(PathBuf),
    /// The certificate and the key are not a pair.
    #[error("{} and {} do not belong together", .certificate.display(), .key.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate, or list, that another authority signed, or nobody.
    #[error("{} was not signed by this authority", .0.display())]
    Foreign(PathBuf),
    /// Renewing would bring back an identity that was taken away.
    #[error("{} is revoked (serial {serial}); issue a new certificate instead", .path.display())]
    Revoked {
        /// The certificate's file.
        path: PathBuf,
        /// Its serial.
        serial: CertificateSerial,
    },
    /// An authority is no leaf: it is neither renewed nor revoked here.
    #[error("{} is the certificate of an authority, not of a server or client", .0.display())]
    NotALeaf(PathBuf),
    /// Something in the old certificate that a renewal could not carry over.
    #[error("{} cannot be renewed: {what}", .path.display())]
    NotRenewable {
        /// The certificate's file.
        path: PathBuf,
        /// What cannot be carried over.
        what: &'static str,
    },
    /// A file that is not what it should be.
    #[error("{} holds no readable {what}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file that is written whole holds something else beside the list.
    #[error(
        "{} holds more than a revocation list, which would be lost when the list is signed afresh; \
         move it to another file", .0.display()
    )]
    NotAlone(PathBuf),
    /// A file stands where the new one should go.
    #[error(
        "{} already exists and was left alone; pass --force to replace it, \
         or name another directory with --dir", .0.display()
    )]
    Exists(PathBuf),
    /// A device, a directory or a pipe, where only a file may be replaced.
    #[error("{} is no regular file and was left alone", .0.display())]
    NotAFile(PathBuf),
    /// A file that is not PEM from its beginning to its end.
    #[error("{}:{}: {}", .path.display(), .error.line, .error.fault)]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        error: PemError,
    },
    /// A file that is larger than anything that belongs there.
    #[error("{} is too large to be read", .0.display())]
    TooLarge(PathBuf),
    /// A file of the authority's directory that somebody else may have put there.
    #[error("{} {what} and was not used", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A line of the index that nothing could be read from.
    #[error("{}:{line}: this line of the index is damaged", .path.display())]
    IndexLine {
        /// The index's file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A change that was begun, and that cannot be finished now.
    #[error("a change that an earlier command began in {} cannot be finished", .dir.display())]
    Unfinished {
        /// The authority's directory.
        dir: PathBuf,
        /// What is in the way.
        source: Box<CertgenError>,
    },
    /// A path that cannot be written down.
    #[error("{} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// Nothing that can be revoked.
    #[error(
        "{0:?} is neither a file, nor a serial, nor the name of a certificate in the index; \
         a serial that the index does not have needs 16 digits or more, or --serial"
    )]
    UnknownTarget(String),
    /// A name whose certificates have all ended.
    #[error("every certificate of {0:?} has ended")]
    Ended(String),
    /// A name that more than one certificate in force has.
    #[error(
        "{name:?} has {} certificates in force; name one by its serial, \
         or pass --all to revoke them all:{}", .candidates.len(), lines(.candidates)
    )]
    Ambiguous {
        /// The name.
        name: String,
        /// The certificates, one a line.
        candidates: Vec<String>,
    },
    /// The number of the revocation list cannot grow any further.
    #[error("the revocation list has used up its numbers")]
    CrlNumber,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// The signer refused.
    #[error("signing failed")]
    Sign(#[from] rcgen::Error),
    /// A file could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CertgenError {
    /// Whether a file was asked for that is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Adapts an I/O error: what was tried, and on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Each of these on a line of its own.
fn lines(items: &[String]) -> String {
    items
        .iter()
        .flat_map(|item| ["\n  ", item.as_str()])
        .collect()
}
