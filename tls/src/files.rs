//! The files that TLS settings are read from, and what is found in them.

use std::fmt;
use std::path::PathBuf;

/// Paths of the files for mutual TLS, as they are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFiles {
    /// The gateway's certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates, PEM.
    pub client_ca: PathBuf,
    /// Certificate revocation lists, PEM; may be empty.
    pub lists: Vec<PathBuf>,
    /// Treatment of clients while a revocation list is out of date.
    pub expired_lists: ExpiredLists,
}

/// Treatment of clients while a revocation list is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredLists {
    /// Clients of the list's authority are refused until there is a new list.
    Refuse,
    /// The list stays in effect.
    Accept,
}

/// One of the files in [`SettingsFiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsFile {
    /// The gateway's certificate.
    Certificate,
    /// The certificate's private key.
    Key,
    /// The authorities that sign clients' certificates.
    ClientCa,
    /// The revocation list with this index in [`SettingsFiles::lists`].
    List(usize),
}

/// Finding about a file that does not prevent its use, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFinding {
    /// The file.
    pub file: SettingsFile,
    /// Place of the finding, as `PATH` or `PATH:LINE`; `None` if it is about the file as a whole.
    pub place: Option<String>,
    /// Description of the finding.
    pub what: String,
}

impl SettingsFinding {
    /// Creates a finding about a file as a whole.
    pub(crate) fn new(file: SettingsFile, what: impl fmt::Display) -> Self {
        Self {
            file,
            place: None,
            what: what.to_string(),
        }
    }

    /// Returns the finding with its place.
    #[must_use]
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }
}
