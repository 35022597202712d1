//! Checks of a leaf certificate: those that a verifier makes, and that of its private key.

use std::fmt;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate_facts::{self, CertificateFacts, date};
use crate::crl::CrlContents;
use crate::error::CertgenError;
use crate::paths::{self, CA_STEM, key_beside};
use crate::sections;
use crate::signature::{belongs, signed_by};
use crate::spec::now;
use crate::store;

/// One check of a certificate and its result, from [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateCheck {
    subject: &'static str,
    finding: CheckResult,
}

/// Result of a check, with an explanation for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// The check has found no fault.
    Passed(String),
    /// A verifier would refuse the certificate, or its owner could not use it.
    Failed(String),
    /// The file to check against does not exist.
    Skipped(String),
}

impl CertificateCheck {
    /// The result of the check.
    pub fn finding(&self) -> &CheckResult {
        &self.finding
    }

    /// Returns true if the result is [`CheckResult::Failed`].
    pub fn failed(&self) -> bool {
        matches!(self.finding, CheckResult::Failed(_))
    }
}

impl fmt::Display for CertificateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, detail) = match &self.finding {
            CheckResult::Passed(detail) => ("ok", detail),
            CheckResult::Failed(detail) => ("FAILED", detail),
            CheckResult::Skipped(detail) => ("skipped", detail),
        };
        write!(f, "{verdict:<8} {:<10} {detail}", self.subject)
    }
}

/// Checks the leaf in a file against the authority, and its `ca.crl`, in `dir`.
///
/// # Errors
///
/// A certificate of a leaf or an authority, or an existing key, that cannot be read. Everything
/// else is a [`CheckResult`].
pub fn verify(dir: &Path, path: &Path) -> Result<Vec<CertificateCheck>, CertgenError> {
    let authority_path = paths::certificate_path(dir, CA_STEM);
    let (leaf_der, authority_der) = (
        certificate_facts::load(path)?,
        certificate_facts::load(&authority_path)?,
    );
    let (_, leaf) =
        X509Certificate::from_der(&leaf_der).map_err(|_| certificate_facts::unreadable(path))?;
    let (_, authority) = X509Certificate::from_der(&authority_der)
        .map_err(|_| certificate_facts::unreadable(&authority_path))?;
    let leaf_facts =
        CertificateFacts::parse(&leaf_der).ok_or_else(|| certificate_facts::unreadable(path))?;
    let authority_facts = CertificateFacts::parse(&authority_der)
        .ok_or_else(|| certificate_facts::unreadable(&authority_path))?;
    let now = now();
    let findings = [
        ("signature", signature(&leaf, &authority)),
        ("chain", chain(path, &authority)?),
        ("dates", dates(&leaf_facts, now)),
        ("authority", dates(&authority_facts, now)),
        ("usage", usage(&leaf_facts)),
        ("key", key(path, &leaf_der)?),
        (
            "revocation",
            revocation(dir, &authority_der, &leaf_facts, now),
        ),
    ];
    Ok(findings
        .into_iter()
        .map(|(subject, finding)| CertificateCheck { subject, finding })
        .collect())
}

fn signature(leaf: &X509Certificate<'_>, authority: &X509Certificate<'_>) -> CheckResult {
    if !authority.is_ca() {
        CheckResult::Failed("ca.crt is not the certificate of an authority".to_owned())
    } else if signed_by(leaf, authority) {
        CheckResult::Passed("signed by this authority".to_owned())
    } else {
        CheckResult::Failed("not signed by this authority".to_owned())
    }
}

/// Checks that the file has the intermediate authority that peers which know only the root need.
fn chain(path: &Path, authority: &X509Certificate<'_>) -> Result<CheckResult, CertgenError> {
    if authority.issuer().as_raw() == authority.subject().as_raw() {
        return Ok(CheckResult::Passed("the authority is a root".to_owned()));
    }
    let behind = certificate_facts::load_all(path)?.into_iter().skip(1);
    let certifies = |der: CertificateDer<'_>| {
        X509Certificate::from_der(&der)
            .is_ok_and(|(_, sent)| sent.public_key().raw == authority.public_key().raw)
    };
    Ok(if behind.into_iter().any(certifies) {
        CheckResult::Passed("the intermediate authority's certificate is in the file".to_owned())
    } else {
        CheckResult::Failed(
            "the intermediate authority's certificate is not in the file; run `certgen renew`"
                .to_owned(),
        )
    })
}

fn dates(facts: &CertificateFacts, now: OffsetDateTime) -> CheckResult {
    let (start, end) = (date(facts.not_before()), date(facts.not_after()));
    if now < facts.not_before() {
        CheckResult::Failed(format!("not valid before {start}"))
    } else if facts.not_after() < now {
        CheckResult::Failed(format!("expired on {end}"))
    } else {
        CheckResult::Passed(format!("valid from {start} to {end}"))
    }
}

fn usage(facts: &CertificateFacts) -> CheckResult {
    if facts.is_authority() {
        return CheckResult::Failed("an authority, not a server or client".to_owned());
    }
    match facts.usages() {
        [only] if only == "serverAuth" || only == "clientAuth" => CheckResult::Passed(only.clone()),
        [] => CheckResult::Failed("no extended key usage".to_owned()),
        others => CheckResult::Failed(format!("not exactly one usage: {}", others.join(", "))),
    }
}

fn key(path: &Path, leaf: &CertificateDer<'_>) -> Result<CheckResult, CertgenError> {
    let key = key_beside(path);
    let pem = match store::read(&key) {
        Ok(pem) => pem,
        Err(error) if error.is_not_found() => {
            return Ok(CheckResult::Skipped(format!(
                "{} does not exist",
                key.display()
            )));
        }
        Err(error) => return Err(error),
    };
    Ok(match sections::key(&pem, &key) {
        Ok(pair) if belongs(leaf, &pair) => {
            CheckResult::Passed(format!("{} belongs to this certificate", key.display()))
        }
        Ok(_) => CheckResult::Failed(format!("{} belongs to another certificate", key.display())),
        Err(error) => CheckResult::Failed(error.to_string()),
    })
}

fn revocation(
    dir: &Path,
    authority: &[u8],
    leaf: &CertificateFacts,
    now: OffsetDateTime,
) -> CheckResult {
    let path = paths::crl_path(dir);
    match CrlContents::load(&path, authority) {
        Err(error) if error.is_not_found() => {
            CheckResult::Skipped(format!("{} does not exist", path.display()))
        }
        Err(error) => CheckResult::Failed(error.to_string()),
        Ok(list) if list.contains(leaf.serial()) => {
            CheckResult::Failed(format!("revoked (serial {})", leaf.serial()))
        }
        Ok(list) if list.next_update().is_none_or(|next| next < now) => {
            CheckResult::Failed("the revocation list has expired; run `certgen crl`".to_owned())
        }
        Ok(list) => CheckResult::Passed(format!("not in revocation list {}", list.number())),
    }
}
