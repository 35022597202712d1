//! `portcullis check`: finds all problems of a policy that can be found without serving it.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::finding::{self, Finding, FindingScope};
use crate::load::{self, LoadError};
use gateway::loaded_policy::LoadedPolicy;
use host::fd_limit;
use host::table::counted;
use policy::{LARGEST_FILE, PolicyKey};

/// Findings of a check of a policy: errors, warnings, and a summary if the policy is valid; made by
/// [`check()`].
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    file: String,
    errors: Vec<ReportedError>,
    warnings: Vec<ReportedError>,
    summary: Option<CheckSummary>,
}

/// One error or warning, with its position in the policy if it has one.
#[derive(Debug, Serialize)]
struct ReportedError {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    message: String,
}

#[derive(Debug, Serialize)]
struct CheckSummary {
    groups: usize,
    clients: usize,
    authorities: usize,
    /// The revocation lists that are in effect, each with its issuer and number.
    revocation_lists: Vec<String>,
}

/// Name that means the standard input instead of a file.
const STANDARD_INPUT: &str = "-";

/// Loads the policy with the same code as serving does. Paths in a policy from the standard input
/// start at the working directory.
fn load(file: &Path) -> Result<LoadedPolicy, LoadError> {
    if file != Path::new(STANDARD_INPUT) {
        return load::read(file);
    }
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        // One byte more than a policy may have: a longer text is refused, not cut.
        .take(LARGEST_FILE as u64 + 1)
        .read_to_string(&mut text);
    read.map_err(|source| LoadError::Unreadable {
        path: file.to_owned(),
        source,
    })?;
    load::of_text(file, &text, |_| {})
}

/// Checks a policy and the files that it names; `-` is the standard input. Errors are part of the
/// report. With `access_log`, the directory of that file is checked too.
pub(crate) fn check(file: &Path, access_log: Option<&Path>) -> CheckReport {
    let mut report = CheckReport {
        file: file.display().to_string(),
        errors: Vec::new(),
        warnings: Vec::new(),
        summary: None,
    };
    match load(file) {
        Ok(loaded) => report.note_findings(&loaded, file, access_log),
        Err(error) => report.note_error(&error),
    }
    report
}

impl CheckReport {
    fn note_findings(&mut self, loaded: &LoadedPolicy, file: &Path, access_log: Option<&Path>) {
        let policy = loaded.policy();
        // The limit of this process is hardly that of the gateway's service: it is compared with
        // what the policy says, not with a default.
        let is_written = policy.position(PolicyKey::Connections).is_some();
        let scope = FindingScope {
            policy: file,
            access_log,
            descriptors: fd_limit::hard().filter(|_| is_written),
        };
        let now = UnixTime::now();
        let mut findings = finding::ending(policy, loaded.tls(), now);
        findings.extend(finding::standing(policy, loaded.tls(), &scope, now));
        findings.sort_by_key(Finding::position);
        let warnings = findings
            .iter()
            .map(|finding| self.at(finding.position(), finding.to_string()));
        let warnings: Vec<_> = warnings.collect();
        self.warnings.extend(warnings);
        let (authorities, revocation_lists) = loaded.tls().trust().summary();
        self.summary = Some(CheckSummary {
            groups: policy.groups().count(),
            clients: policy.clients().count(),
            authorities,
            revocation_lists,
        });
    }

    fn note_error(&mut self, error: &LoadError) {
        let errors: Vec<_> = match (error, error.policy_error()) {
            (_, Some(told)) => {
                let problems = told.problems().iter();
                let problems = problems.map(|problem| {
                    let position = (problem.line, problem.column);
                    self.at(Some(position), problem.message.clone())
                });
                let untold =
                    (told.unreported() > 0).then(|| format!("and {} more", told.unreported()));
                let untold = untold.map(|message| self.at(None, message));
                problems.chain(untold).collect()
            }
            (LoadError::Unreadable { source, .. }, None) => {
                vec![self.at(None, format!("cannot read the policy: {source}"))]
            }
            (LoadError::Policy(_) | LoadError::Files { .. }, None) => {
                vec![self.at(None, error.to_string())]
            }
        };
        self.errors.extend(errors);
    }

    /// Creates an error or warning at a position in the policy, or about the file as a whole.
    fn at(&self, position: Option<(u32, u32)>, message: String) -> ReportedError {
        ReportedError {
            file: self.file.clone(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            message,
        }
    }
}

impl ReportedError {
    /// Writes `FILE:LINE:COLUMN: KIND: MESSAGE`, a form that editors and other tools can follow.
    fn write(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        let Self { file, message, .. } = self;
        match self.line.zip(self.column) {
            Some((line, column)) => writeln!(f, "{file}:{line}:{column}: {kind}: {message}"),
            None => writeln!(f, "{file}: {kind}: {message}"),
        }
    }
}

impl CheckReport {
    /// Returns true if the policy can be served: there are no errors.
    pub(crate) fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            error.write(f, "error")?;
        }
        for warning in &self.warnings {
            warning.write(f, "warning")?;
        }
        match &self.summary {
            Some(CheckSummary {
                groups,
                clients,
                authorities,
                revocation_lists: lists,
            }) if self.is_valid() => {
                let parts = [
                    counted(*groups, "group", "groups"),
                    counted(*clients, "client", "clients"),
                    counted(*authorities, "authority", "authorities"),
                    counted(lists.len(), "revocation list", "revocation lists"),
                ];
                writeln!(f, "{}: valid: {}", self.file, parts.join(", "))
            }
            Some(_) | None => writeln!(f, "{}: not valid", self.file),
        }
    }
}
