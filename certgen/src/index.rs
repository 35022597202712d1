//! Index of the certificates that an authority issued, by serial.
//!
//! `ca.index` has one line of JSON for each certificate, and entries are only added, never changed.
//! Revocations are recorded in `ca.crl` alone, so the two cannot contradict each other.

mod entry;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::certificate_facts::{self, date, printable};
use crate::crl::CrlContents;
use crate::error::CertgenError;
use crate::paths::{self, CA_STEM};
use crate::serial::CertificateSerial;
use crate::spec::now;

pub use self::entry::IndexEntry;
pub(crate) use self::file::{append, append_missing, exists, lines};

/// State of an issued certificate, as [`CertificateIndex::state`] determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState {
    /// It is in force.
    Valid,
    /// It is in force, and a newer certificate replaces it.
    Replaced,
    /// It has expired.
    Ended,
    /// It was revoked.
    Revoked,
}

impl fmt::Display for CertificateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Replaced => "replaced",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        })
    }
}

/// Certificates that an authority issued, with their revocations and replacements.
#[derive(Debug)]
pub struct CertificateIndex {
    entries: Vec<IndexEntry>,
    revoked: BTreeSet<CertificateSerial>,
    replaced_by: BTreeMap<CertificateSerial, CertificateSerial>,
    now: OffsetDateTime,
}

impl CertificateIndex {
    /// Reads `ca.index` and `ca.crl` of an authority's directory; entries of an earlier authority
    /// are left out.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a damaged line of the index. A missing index is an empty one.
    pub fn load(dir: &Path) -> Result<Self, CertgenError> {
        let authority = certificate_facts::load(&paths::certificate_path(dir, CA_STEM))?;
        Self::of(dir, &authority)
    }

    pub(crate) fn of(dir: &Path, authority: &CertificateDer<'_>) -> Result<Self, CertgenError> {
        let id = entry::authority_id(authority).unwrap_or_default();
        let mut entries = file::read(dir)?;
        entries.retain(|entry| entry.authority == id);
        let revoked = match CrlContents::load(&paths::crl_path(dir), authority) {
            Ok(list) => list
                .entries()
                .iter()
                .map(|entry| entry.serial().clone())
                .collect(),
            Err(error) if error.is_not_found() => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        let replaced_by = entries
            .iter()
            .filter_map(|entry| Some((entry.replaces.clone()?, entry.serial.clone())))
            .collect();
        Ok(Self {
            entries,
            revoked,
            replaced_by,
            now: now(),
        })
    }

    /// The certificates, in the order in which they were issued.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The entry of the certificate with this serial, if the index has it.
    pub fn get(&self, serial: &CertificateSerial) -> Option<&IndexEntry> {
        self.entries.iter().find(|entry| entry.serial == *serial)
    }

    /// The certificates of a name that are in force, or, if there are none, its revoked ones.
    pub(crate) fn named(&self, name: &str) -> Vec<&IndexEntry> {
        let in_state = |wanted: &[CertificateState]| -> Vec<&IndexEntry> {
            let named = self.entries.iter().filter(|entry| entry.name == name);
            named
                .filter(|entry| wanted.contains(&self.state(entry)))
                .collect()
        };
        match in_state(&[CertificateState::Valid, CertificateState::Replaced]) {
            none if none.is_empty() => in_state(&[CertificateState::Revoked]),
            live => live,
        }
    }

    /// Returns true if any certificate, in force or not, has this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// The certificates that this one replaced, directly or indirectly, and that are in force
    /// ([`CertificateState::Replaced`]).
    pub(crate) fn replaced(&self, serial: &CertificateSerial) -> Vec<&IndexEntry> {
        let mut found = Vec::new();
        let mut at = self.get(serial);
        // A chain longer than the index would be a cycle.
        for _ in 0..self.entries.len() {
            let Some(old) = at.and_then(|entry| self.get(entry.replaces.as_ref()?)) else {
                break;
            };
            if self.state(old) == CertificateState::Replaced {
                found.push(old);
            }
            at = Some(old);
        }
        found
    }

    /// State of an issued certificate at the time at which the index was read.
    pub fn state(&self, entry: &IndexEntry) -> CertificateState {
        if self.revoked.contains(&entry.serial) {
            CertificateState::Revoked
        } else if entry.until < self.now {
            CertificateState::Ended
        } else if self.replaced_by.contains_key(&entry.serial) {
            CertificateState::Replaced
        } else {
            CertificateState::Valid
        }
    }

    /// Returns true if the certificate is revoked.
    pub(crate) fn is_revoked(&self, entry: &IndexEntry) -> bool {
        self.state(entry) == CertificateState::Revoked
    }

    /// Describes a certificate on one line, for an error message.
    pub(crate) fn describe(&self, entry: &IndexEntry) -> String {
        let (serial, state, file) = (&entry.serial, self.state(entry), &entry.file);
        let (from, until) = (date(entry.from), date(entry.until));
        format!("{serial} {state}, {from} to {until}, {}", printable(file))
    }

    /// The serials that are revoked, but not in the index.
    fn unknown(&self) -> impl Iterator<Item = &CertificateSerial> {
        let known: BTreeSet<&CertificateSerial> =
            self.entries.iter().map(|entry| &entry.serial).collect();
        self.revoked
            .iter()
            .filter(move |serial| !known.contains(serial))
    }

    /// The index as a JSON array: all entries, then the revoked serials that have none.
    pub fn json(&self) -> Value {
        let known = self.entries.iter().map(|entry| {
            json!({
                "serial": entry.serial.to_string(),
                "name": entry.name,
                "kind": entry.kind,
                "file": entry.file,
                "from": date(entry.from),
                "until": date(entry.until),
                "state": self.state(entry).to_string(),
                "replaces": entry.replaces.as_ref().map(ToString::to_string),
                "replaced_by": self.replaced_by.get(&entry.serial).map(ToString::to_string),
            })
        });
        let unknown = self.unknown().map(
            |serial| json!({"serial": serial.to_string(), "state": CertificateState::Revoked.to_string()}),
        );
        known.chain(unknown).collect()
    }
}

impl fmt::Display for CertificateIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<32}  {:<8}  {:<6}  {:<20}  NAME (FILE)",
            "SERIAL", "STATE", "KIND", "UNTIL"
        )?;
        for entry in &self.entries {
            writeln!(
                f,
                "{:<32}  {:<8}  {:<6}  {:<20}  {} ({})",
                entry.serial.to_string(),
                self.state(entry),
                entry.kind,
                date(entry.until),
                printable(&entry.name),
                printable(&entry.file),
            )?;
        }
        for serial in self.unknown() {
            writeln!(
                f,
                "{:<32}  {:<8}",
                serial.to_string(),
                CertificateState::Revoked
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
