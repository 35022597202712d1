//! `portcullis expiring`: the certificates and revocation lists of a policy that end soon.

use host::table::{ColumnAlign, TextTable, terminal_width};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::load::{self, LoadError, base};
use gateway::tls_files::settings_files;
use tls::dated_item::DatedItem;
use tls::files::{SettingsFile, SettingsFiles};

/// Certificates and revocation lists that end within a time, soonest first; made by [`expiring()`].
#[derive(Debug, Serialize)]
pub(crate) struct ExpiringReport {
    within_seconds: u64,
    items: Vec<ExpiringItem>,
}

/// One certificate or revocation list.
#[derive(Debug, Serialize)]
struct ExpiringItem {
    file: PathBuf,
    kind: &'static str,
    subject: String,
    /// In RFC 3339, as the file says it.
    ends_at: String,
    /// Negative if it has ended.
    ends_in_seconds: i64,
}

/// Lists what ends within a time from now, or has ended, among the files that a policy names: its
/// own certificate and chain, the client authorities, and the revocation lists in effect.
///
/// # Errors
///
/// The policy, or a file that it names, cannot be read or is not valid. That something has ended
/// is not an error.
pub(crate) fn expiring(
    policy: &Path,
    within: Duration,
    now: UnixTime,
) -> Result<ExpiringReport, LoadError> {
    let loaded = load::read_whatever_dates(policy)?;
    let files = settings_files(&loaded.policy().gateway().tls, base(policy));
    let until = now.as_secs().saturating_add(within.as_secs());
    let mut dated = loaded.tls().dated();
    dated.retain(|item| item.lifetime.end() <= until);
    dated.sort_by_key(|item| item.lifetime.end());
    let items = dated.into_iter();
    Ok(ExpiringReport {
        within_seconds: within.as_secs(),
        items: items
            .map(|item| ExpiringItem::of(item, &files, now))
            .collect(),
    })
}

impl ExpiringReport {
    /// Returns true if nothing ends.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl ExpiringItem {
    fn of(item: DatedItem, files: &SettingsFiles, now: UnixTime) -> Self {
        let file = match item.file {
            SettingsFile::Certificate => Some(&files.certificate),
            SettingsFile::Key => Some(&files.key),
            SettingsFile::ClientCa => Some(&files.client_ca),
            SettingsFile::List(index) => files.lists.get(index),
        };
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        Self {
            file: file.cloned().unwrap_or_default(),
            kind: item.kind.name(),
            ends_at: item.ends_at(),
            ends_in_seconds: signed(item.lifetime.end()).saturating_sub(signed(now.as_secs())),
            subject: item.subject,
        }
    }

    /// Returns the time that is left, such as `3d4h`, or the time since the end.
    fn left(&self) -> String {
        let time = span(self.ends_in_seconds.unsigned_abs());
        if self.ends_in_seconds > 0 {
            time
        } else {
            format!("ended {time} ago")
        }
    }
}

/// Formats a time in its two largest units, such as `3d4h` or `5s`.
fn span(seconds: u64) -> String {
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(number, _)| *number > 0);
    let shown = &units[first.unwrap_or(units.len() - 1)..];
    let [(number, unit), rest @ ..] = shown else {
        return String::new();
    };
    match rest.first() {
        Some((next, smaller)) if *next > 0 => format!("{number}{unit}{next}{smaller}"),
        Some(_) | None => format!("{number}{unit}"),
    }
}

impl fmt::Display for ExpiringReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing ends within {}", span(self.within_seconds));
        }
        let mut table = TextTable::new([
            ("ENDS IN", ColumnAlign::Left),
            ("ENDS AT", ColumnAlign::Left),
            ("WHAT", ColumnAlign::Left),
            ("SUBJECT", ColumnAlign::Left),
            ("FILE", ColumnAlign::Left),
        ]);
        for item in &self.items {
            table.push([
                item.left(),
                item.ends_at.clone(),
                item.kind.to_owned(),
                item.subject.clone(),
                item.file.display().to_string(),
            ]);
        }
        f.write_str(&table.to_text(terminal_width()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_661, "1h1m"),
            (7_200 + 59, "2h"),
            (3 * 86_400 + 4 * 3_600 + 59, "3d4h"),
            (30 * 86_400, "30d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
