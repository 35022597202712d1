//! The files for mutual TLS, and where the policy names them.

use std::path::PathBuf;

use policy_yaml::TextPosition;

/// Files for mutual TLS. The paths are as written; relative ones start at the policy's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The gateway's certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates, PEM.
    pub client_ca: PathBuf,
    /// Certificate revocation lists, PEM; may be empty.
    pub crl: Vec<PathBuf>,
    /// Treatment of clients while a revocation list is out of date.
    pub expired_crl: ExpiredCrl,
    /// Positions in the policy where the files are named.
    pub positions: TlsPositions,
}

/// One of the files for mutual TLS, identified by the key that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// The gateway's certificate.
    Certificate,
    /// The certificate's private key.
    Key,
    /// The authorities that sign clients' certificates.
    ClientCa,
    /// The revocation list with this index in [`TlsFiles::crl`].
    Crl(usize),
}

impl TlsFile {
    /// Returns the key of the policy that names the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "gateway.tls.certificate",
            Self::Key => "gateway.tls.key",
            Self::ClientCa => "gateway.tls.client_ca",
            Self::Crl(_) => "gateway.tls.crl",
        }
    }
}

/// Positions in the policy where the files for mutual TLS are named.
///
/// All values are equal, as with [`SourceLine`](crate::SourceLine): a line that has moved is not a
/// change of the policy.
#[derive(Debug, Clone, Default)]
pub struct TlsPositions {
    pub(crate) certificate: TextPosition,
    pub(crate) key: TextPosition,
    pub(crate) client_ca: TextPosition,
    pub(crate) crl: Vec<TextPosition>,
}

impl TlsPositions {
    pub(crate) fn at(&self, file: TlsFile) -> TextPosition {
        match file {
            TlsFile::Certificate => self.certificate,
            TlsFile::Key => self.key,
            TlsFile::ClientCa => self.client_ca,
            TlsFile::Crl(index) => self.crl.get(index).copied().unwrap_or_default(),
        }
    }

    /// Returns the line and the column of a file's name in the policy, both counted from 1.
    pub fn position(&self, file: TlsFile) -> (u32, u32) {
        let TextPosition { line, column } = self.at(file);
        (line, column)
    }
}

impl PartialEq for TlsPositions {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TlsPositions {}

/// Treatment of clients while a revocation list is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredCrl {
    /// Clients of the list's authority are refused until there is a new list.
    Refuse,
    /// The list stays in effect.
    Accept,
}
