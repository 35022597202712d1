//! The file of the index, `ca.index`: one line of JSON for each certificate.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::certificate_facts::date;
use crate::error::CertgenError;
use crate::index::entry::IndexEntry;
use crate::lock;
use crate::paths::CA_STEM;
use crate::serial::CertificateSerial;
use crate::store;

/// One line of the file; dates are RFC 3339, serials hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
struct IndexLine {
    serial: String,
    name: String,
    kind: String,
    file: String,
    from: String,
    until: String,
    authority: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
}

impl IndexLine {
    fn of(entry: &IndexEntry) -> Self {
        Self {
            serial: entry.serial.to_string(),
            name: entry.name.clone(),
            kind: entry.kind.clone(),
            file: entry.file.clone(),
            from: date(entry.from),
            until: date(entry.until),
            authority: entry.authority.clone(),
            replaces: entry.replaces.as_ref().map(ToString::to_string),
        }
    }

    fn entry(self) -> Option<IndexEntry> {
        let replaces = match self.replaces {
            Some(text) => Some(CertificateSerial::parse(&text)?),
            None => None,
        };
        Some(IndexEntry {
            serial: CertificateSerial::parse(&self.serial)?,
            name: self.name,
            kind: self.kind,
            file: self.file,
            from: OffsetDateTime::parse(&self.from, &Rfc3339).ok()?,
            until: OffsetDateTime::parse(&self.until, &Rfc3339).ok()?,
            authority: self.authority,
            replaces,
        })
    }
}

/// Returns true if a directory has an index.
pub(crate) fn exists(dir: &Path) -> bool {
    path(dir).exists()
}

/// Formats the lines of these entries.
pub(crate) fn lines(entries: &[IndexEntry]) -> Result<String, CertgenError> {
    let mut text = String::new();
    for entry in entries {
        let line = serde_json::to_string(&IndexLine::of(entry))
            .map_err(|_| CertgenError::NotUtf8(entry.file.clone().into()))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// Adds those of the lines that the file does not have yet; can be repeated.
pub(crate) fn append_missing(dir: &Path, lines: &str) -> Result<(), CertgenError> {
    let old = text(dir)?;
    let known: BTreeSet<&str> = old.lines().collect();
    let missing: String = lines
        .split_inclusive('\n')
        .filter(|line| !known.contains(line.trim_end()))
        .collect();
    append(dir, &missing)
}

/// Adds lines, and waits until they are safe on disk. The caller holds the directory's lock.
///
/// A part of a line at the end of the file is removed first.
pub(crate) fn append(dir: &Path, lines: &str) -> Result<(), CertgenError> {
    if lines.is_empty() && exists(dir) {
        return Ok(());
    }
    let path = path(dir);
    let failed = || CertgenError::io("write", &path);
    let created = !exists(dir);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(store::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(&path)
        .map_err(CertgenError::io("open", &path))?;
    lock::check_own(&file, dir, &path)?;
    lock::hand_over(&file, dir).map_err(failed())?;
    let end = whole(&mut file).map_err(failed())?;
    file.set_len(end).map_err(failed())?;
    file.seek(SeekFrom::Start(end)).map_err(failed())?;
    file.write_all(lines.as_bytes()).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    if created {
        store::sync_dir(dir)?;
    }
    Ok(())
}

/// Finds the end of the last whole line; a process or machine that died can leave a part of one.
fn whole(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut octet = [0];
    while end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut octet)?;
        if octet == *b"\n" {
            break;
        }
        end -= 1;
    }
    Ok(end)
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(format!("{CA_STEM}.index"))
}

fn text(dir: &Path) -> Result<String, CertgenError> {
    match store::read_file(&path(dir)) {
        Err(error) if error.is_not_found() => Ok(String::new()),
        text => text,
    }
}

pub(super) fn read(dir: &Path) -> Result<Vec<IndexEntry>, CertgenError> {
    let text = text(dir)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entry = |(number, line): (usize, &str)| {
        serde_json::from_str::<IndexLine>(line)
            .ok()
            .and_then(IndexLine::entry)
            .ok_or_else(|| CertgenError::IndexLine {
                path: path(dir),
                line: number + 1,
            })
    };
    whole.lines().enumerate().map(entry).collect()
}
