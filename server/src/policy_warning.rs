//! Warnings: findings about a policy and its files that do not prevent it from being served.

use std::fmt;

use policy::{Policy, TlsFile};
use rustls_pki_types::UnixTime;
use tls::TlsSettings;
use tls::files::SettingsFinding;

use gateway::tls_files::policy_file;

/// Finding about a file that the policy names, for an operator. `check` prints it as a warning;
/// start and reload log it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyWarning {
    file: TlsFile,
    subject: Option<String>,
    what: String,
}

/// Returns the warnings about the policy's files now.
pub(crate) fn warnings(policy: &Policy, tls: &TlsSettings, now: UnixTime) -> Vec<PolicyWarning> {
    let names = policy.groups().flat_map(|group| &group.sni);
    let names: Vec<String> = names.map(ToString::to_string).collect();
    let findings = tls.warnings(&names, now);
    findings.into_iter().map(PolicyWarning::from).collect()
}

impl PolicyWarning {
    /// Returns the file that the finding is about.
    pub(crate) fn file(&self) -> TlsFile {
        self.file
    }

    /// Returns the place of the finding if one is set, else the policy's key that names the file.
    pub(crate) fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or(self.file.key())
    }

    /// Returns the description of the finding.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

impl From<SettingsFinding> for PolicyWarning {
    fn from(finding: SettingsFinding) -> Self {
        let SettingsFinding { file, place, what } = finding;
        Self {
            file: policy_file(file),
            subject: place,
            what,
        }
    }
}

impl fmt::Display for PolicyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject(), self.what)
    }
}
