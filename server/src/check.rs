//! `portcullis check`: everything that can be known about a policy without serving it.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::load::{self, LoadError, Loaded};

/// What a check found.
#[derive(Debug, Serialize)]
pub struct Report {
    file: String,
    errors: Vec<Mistake>,
    warnings: Vec<String>,
    summary: Option<Summary>,
}

/// One error, with its place in the policy if it has one.
#[derive(Debug, Serialize)]
struct Mistake {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    message: String,
}

#[derive(Debug, Serialize)]
struct Summary {
    groups: usize,
    clients: usize,
    authorities: usize,
    /// The revocation lists that count, each with its issuer and number.
    revocation_lists: Vec<String>,
}

/// The file that stands for the standard input.
const STANDARD_INPUT: &str = "-";

/// Reads what is to be checked, on the path that serving takes. The paths in a policy that comes from the
/// standard input start at the working directory.
fn load(file: &Path) -> Result<Loaded, LoadError> {
    if file != Path::new(STANDARD_INPUT) {
        return Loaded::read(file);
    }
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(load::LARGEST)
        .read_to_string(&mut text);
    read.map_err(|source| LoadError::Unreadable {
        path: file.to_owned(),
        source,
    })?;
    Loaded::of_text(file, &text, |_| {})
}

/// Checks a policy and the files that it names; `-` is the standard input.
pub fn check(file: &Path) -> Report {
    let mut report = Report {
        file: file.display().to_string(),
        errors: Vec::new(),
        warnings: Vec::new(),
        summary: None,
    };
    match load(file) {
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
            let told = error.problems().iter().map(|problem| Mistake {
                line: Some(problem.line),
                column: Some(problem.column),
                message: problem.message.clone(),
            });
            report.errors.extend(told);
            report.errors.extend((error.untold() > 0).then(|| Mistake {
                line: None,
                column: None,
                message: format!("and {} more in this file", error.untold()),
            }));
        }
        Err(error) => report.errors.push(Mistake {
            line: None,
            column: None,
            message: error.to_string(),
        }),
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
        let file = &self.file;
        for Mistake {
            line,
            column,
            message,
        } in &self.errors
        {
            // The form that editors and other tools jump to.
            match line.zip(*column) {
                Some((line, column)) => writeln!(f, "{file}:{line}:{column}: error: {message}")?,
                None => writeln!(f, "error: {message}")?,
            }
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
