//! `portcullis check`: everything that can be known about a policy without serving it.

use std::fmt;
use std::path::Path;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::load::{LoadError, Loaded};

/// What a check found.
#[derive(Debug, Serialize)]
pub struct Report {
    file: String,
    errors: Vec<String>,
    warnings: Vec<String>,
    summary: Option<Summary>,
}

#[derive(Debug, Serialize)]
struct Summary {
    groups: usize,
    clients: usize,
    authorities: usize,
    /// The revocation lists that count, each with its issuer and number.
    revocation_lists: Vec<String>,
}

/// Checks a policy and the files that it names, on the path that serving takes.
pub fn check(file: &Path) -> Report {
    let mut report = Report {
        file: file.display().to_string(),
        errors: Vec::new(),
        warnings: Vec::new(),
        summary: None,
    };
    match Loaded::read(file) {
        Ok(loaded) => {
            let policy = loaded.policy();
            let findings = loaded.tls().findings(policy, UnixTime::now());
            report
                .warnings
                .extend(findings.iter().map(ToString::to_string));
            let (authorities, revocation_lists) = loaded.tls().trust().summary();
            report.summary = Some(Summary {
                groups: policy.groups().count(),
                clients: policy.clients().count(),
                authorities,
                revocation_lists,
            });
        }
        Err(LoadError::Policy(error)) => {
            report
                .errors
                .extend(error.to_string().lines().map(str::to_owned));
        }
        Err(error) => report.errors.push(error.to_string()),
    }
    report
}

impl Report {
    /// Whether the policy could be served.
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        match &self.summary {
            Some(Summary {
                groups,
                clients,
                authorities,
                revocation_lists: lists,
            }) if self.is_valid() => {
                let lists = lists.len();
                write!(f, "{}: fine: {groups} groups, {clients} clients", self.file)?;
                writeln!(f, ", {authorities} authorities, {lists} revocation lists")
            }
            Some(_) | None => writeln!(f, "{}: not valid", self.file),
        }
    }
}
