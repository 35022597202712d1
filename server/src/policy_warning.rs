//! Warnings: findings about a policy and its files that do not prevent it from being served.

use std::fmt;

use crate::policy::TlsFile;

/// Finding about a file that the policy names, for an operator. `check` prints it as a warning;
/// start and reload log it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWarning {
    file: TlsFile,
    subject: Option<String>,
    what: String,
}

impl PolicyWarning {
    /// Creates a finding about a file that the policy names.
    pub fn new(file: TlsFile, what: impl fmt::Display) -> Self {
        Self {
            file,
            subject: None,
            what: what.to_string(),
        }
    }

    /// Sets the place of the finding, such as `PATH` or `PATH:LINE`, as its subject.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.subject = Some(place.to_string());
        self
    }

    /// Returns the file that the finding is about.
    pub fn file(&self) -> TlsFile {
        self.file
    }

    /// Returns the place of the finding if one is set, else the policy's key that names the file.
    pub fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or(self.file.key())
    }

    /// Returns the description of the finding.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for PolicyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject(), self.what)
    }
}
