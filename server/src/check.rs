//! `portcullis check`: everything that can be known about a policy without serving it.

use std::fmt;
use std::path::Path;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::load::{LoadError, Loaded};
use crate::tls::Tls;

/// How long before a certificate's end a check begins to warn.
const SOON: u64 = 14 * 24 * 60 * 60;

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
            report.look_at(loaded.tls());
            let policy = loaded.policy();
            report.summary = Some(Summary {
                groups: policy.groups().count(),
                clients: policy.clients().count(),
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

    fn look_at(&mut self, tls: &Tls) {
        let now = UnixTime::now();
        match own_certificate(tls.leaf(), now) {
            Ok(None) => {}
            Ok(Some(warning)) => self.warnings.push(warning),
            Err(error) => self.errors.push(error),
        }
        let (valid, all) = tls.trust().valid_authorities(now);
        if valid == 0 {
            self.errors
                .push("gateway.tls.client_ca: no authority is in date".to_owned());
        } else if valid < all {
            self.warnings.push(format!(
                "gateway.tls.client_ca: {} of {all} authorities are out of date",
                all - valid
            ));
        }
    }
}

/// What is wrong, or soon will be, with the gateway's own certificate.
fn own_certificate(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<Option<String>, String> {
    let certificate = "gateway.tls.certificate";
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| format!("{certificate}: cannot be read: {error}"))?;
    let validity = parsed.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        return Err(format!(
            "{certificate}: is not valid before {}",
            validity.not_before
        ));
    }
    if now > validity.not_after.timestamp() {
        return Err(format!("{certificate}: expired on {}", validity.not_after));
    }
    let purposes = parsed
        .extended_key_usage()
        .map_err(|error| format!("{certificate}: cannot be read: {error}"))?;
    if purposes.is_some_and(|purposes| !purposes.value.server_auth && !purposes.value.any) {
        return Err(format!("{certificate}: is not for servers (no serverAuth)"));
    }
    let left = u64::try_from(validity.not_after.timestamp() - now).unwrap_or(0);
    Ok((left < SOON).then(|| format!("{certificate}: expires on {}", validity.not_after)))
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
            Some(Summary { groups, clients }) if self.is_valid() => {
                writeln!(f, "{}: fine: {groups} groups, {clients} clients", self.file)
            }
            Some(_) | None => writeln!(f, "{}: not valid", self.file),
        }
    }
}
