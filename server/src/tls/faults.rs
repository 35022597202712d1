//! What can be wrong with the TLS files.

use std::path::PathBuf;

use thiserror::Error;

use crate::policy::TlsFile;
use crate::tls_messages;
use crate::trust::{CrlRollback, TrustError};

/// Why the TLS files could not be loaded.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file of certificates or revocations is no good.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The gateway's own certificate is of no use to clients.
    #[error("{path}: {what}", path = .path.display())]
    Own {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No client could be verified.
    #[error("{path}: no authority is in date", path = .0.display())]
    NoneInDate(PathBuf),
    /// The file does not hold exactly one private key.
    #[error("{path}: holds {count} private keys, and must hold one", path = .path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A revocation list is older than the one that is in force.
    #[error(transparent)]
    Rollback(#[from] CrlRollback),
    /// The system gives no random bytes.
    #[error("no keys for tickets can be made: {}", tls_messages::tls(.0))]
    Random(rustls::Error),
    /// The private key is not the certificate's.
    #[error("{key}: is not the key of {certificate}: {}", tls_messages::tls(.what))]
    Mismatch {
        /// The key's file.
        key: String,
        /// The certificate's file.
        certificate: String,
        /// What rustls said.
        what: rustls::Error,
    },
}

/// What is wrong with one of the TLS files.
#[derive(Debug)]
pub struct TlsFault {
    /// The file.
    pub file: TlsFile,
    /// What is wrong with it.
    pub error: TlsError,
}

/// What is wrong with the TLS files, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct TlsFaults(pub(super) Vec<TlsFault>);

impl TlsFaults {
    /// What was read, if nothing is wrong with it.
    pub(super) fn note<T>(
        &mut self,
        file: TlsFile,
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

    /// Nothing, if nothing is wrong.
    pub(super) fn found(self) -> Result<(), Vec<TlsFault>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}
