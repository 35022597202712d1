//! What is noticed about a policy and its files that does not keep them from being served.

use std::fmt;

use crate::policy::TlsFile;

/// Something that an operator should look at. `check` prints it as a warning; start and reload log it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWarning {
    file: TlsFile,
    subject: Option<String>,
    what: String,
}

impl PolicyWarning {
    /// A finding about a file that the policy names.
    pub fn new(file: TlsFile, what: impl fmt::Display) -> Self {
        Self {
            file,
            subject: None,
            what: what.to_string(),
        }
    }

    /// The same at a place in the file, as its path has it.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.subject = Some(place.to_string());
        self
    }

    /// The file.
    pub fn file(&self) -> TlsFile {
        self.file
    }

    /// Where it was found: a place in the file, or the policy's key that names the file.
    pub fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or(self.file.key())
    }

    /// What it is.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for PolicyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject(), self.what)
    }
}
