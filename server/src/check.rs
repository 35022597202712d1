//! `portcullis check`: finds all problems of a policy that can be found without serving it.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::load::{self, LoadError};
use crate::policy_warning::warnings;
use gateway::loaded_policy::LoadedPolicy;
use policy::LARGEST_FILE;

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
/// report.
pub(crate) fn check(file: &Path) -> CheckReport {
    let mut report = CheckReport {
        file: file.display().to_string(),
        errors: Vec::new(),
        warnings: Vec::new(),
        summary: None,
    };
    match load(file) {
        Ok(loaded) => {
            let policy = loaded.policy();
            let places = &policy.gateway().tls.positions;
            let findings = warnings(policy, loaded.tls(), UnixTime::now());
            let reported = findings.iter().map(|finding| {
                let (line, column) = places.position(finding.file());
                ReportedError::at(line, column, finding.to_string())
            });
            report.warnings.extend(reported);
            let (authorities, revocation_lists) = loaded.tls().trust().summary();
            report.summary = Some(CheckSummary {
                groups: policy.groups().count(),
                clients: policy.clients().count(),
                authorities,
                revocation_lists,
            });
        }
        Err(LoadError::Unreadable { source, .. }) => {
            let message = format!("cannot read the policy: {source}");
            report.errors.push(ReportedError::of_file(message));
        }
        Err(error) => match error.policy_error() {
            Some(told) => {
                let problems = told.problems().iter();
                let problems = problems.map(|problem| {
                    ReportedError::at(problem.line, problem.column, problem.message.clone())
                });
                report.errors.extend(problems);
                let untold =
                    (told.unreported() > 0).then(|| format!("and {} more", told.unreported()));
                report.errors.extend(untold.map(ReportedError::of_file));
            }
            None => report
                .errors
                .push(ReportedError::of_file(error.to_string())),
        },
    }
    report
}

impl ReportedError {
    fn at(line: u32, column: u32, message: String) -> Self {
        Self {
            line: Some(line),
            column: Some(column),
            message,
        }
    }

    /// Creates an error about the file as a whole.
    fn of_file(message: String) -> Self {
        Self {
            line: None,
            column: None,
            message,
        }
    }

    /// Writes `FILE:LINE:COLUMN: KIND: MESSAGE`, a form that editors and other tools can follow.
    fn write(&self, f: &mut fmt::Formatter<'_>, file: &str, kind: &str) -> fmt::Result {
        let message = &self.message;
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
            error.write(f, &self.file, "error")?;
        }
        for warning in &self.warnings {
            warning.write(f, &self.file, "warning")?;
        }
        match &self.summary {
            Some(CheckSummary {
                groups,
                clients,
                authorities,
                revocation_lists: lists,
            }) if self.is_valid() => {
                let lists = lists.len();
                write!(
                    f,
                    "{}: valid: {groups} groups, {clients} clients",
                    self.file
                )?;
                writeln!(f, ", {authorities} authorities, {lists} revocation lists")
            }
            Some(_) | None => writeln!(f, "{}: not valid", self.file),
        }
    }
}
