//! Errors of the TLS files.

use std::path::PathBuf;

use thiserror::Error;

use crate::files::SettingsFile;
use crate::tls_messages;
use crate::trust::{CrlRollback, TrustError};

/// Error in one of the TLS files.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file of certificates or revocation lists is not valid.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Clients cannot use the gateway's own certificate.
    #[error("{path}: {what}", path = .path.display())]
    Own {
        /// The certificate's file.
        path: PathBuf,
        /// Description of the fault.
        what: String,
    },
    /// No authority is valid now, so that no client could be verified.
    #[error("{path}: no authority is valid now", path = .0.display())]
    NoneInDate(PathBuf),
    /// The file does not hold exactly one private key.
    #[error("{path}: expected one private key, found {count}", path = .path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Number of private keys in the file.
        count: usize,
    },
    /// A revocation list is older than the one that is in force.
    #[error(transparent)]
    Rollback(#[from] CrlRollback),
    /// The system provides no random bytes.
    #[error("cannot create ticket keys: {}", tls_messages::tls(.0))]
    Random(rustls::Error),
    /// The private key does not belong to the certificate.
    #[error("{key} is not the key of {certificate}: {}", tls_messages::tls(.what))]
    Mismatch {
        /// The key's file.
        key: String,
        /// The certificate's file.
        certificate: String,
        /// rustls' error.
        what: rustls::Error,
    },
}

/// Fault in one of the TLS files, as [`TlsSettings::load`](crate::TlsSettings::load) reports
/// it.
#[derive(Debug)]
pub struct TlsFault {
    /// The file.
    pub file: SettingsFile,
    /// The error that its file has.
    pub error: TlsError,
}

/// Collected faults of the TLS files.
#[derive(Debug, Default)]
pub(crate) struct TlsFaults(pub(crate) Vec<TlsFault>);

impl TlsFaults {
    /// Returns the value that was read; notes its error otherwise.
    pub(crate) fn note<T>(
        &mut self,
        file: SettingsFile,
        read: Result<T, impl Into<TlsError>>,
    ) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                let error = error.into();
                self.0.push(TlsFault { file, error });
                None
            }
        }
    }

    /// Returns `Ok` if no fault was noted, and all faults otherwise.
    pub(crate) fn found(self) -> Result<(), Vec<TlsFault>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}
