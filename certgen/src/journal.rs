//! Atomic changes of several files, which survive a process that is killed half way.
//!
//! The steps of a change are first written to `ca.journal`, which is removed last. If a process
//! ends in between, the next one that locks the directory takes the remaining steps. So every step
//! is idempotent.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use crate::error::CertgenError;
use crate::index::{self, IndexEntry};
use crate::store::{self, DraftFile, FileAccess, Overwrite};

/// Number of pairs from which on the whole file system is synced: one wait instead of one for each
/// file.
const MANY: usize = 8;

/// A prepared change of an authority's directory; [`DirectoryChange::commit`] makes it.
#[derive(Debug)]
#[must_use = "a change does nothing until it is committed"]
pub(crate) struct DirectoryChange {
    overwrite: Overwrite,
    pairs: Vec<(DraftFile, DraftFile)>,
    entries: Vec<IndexEntry>,
    removed: Vec<PathBuf>,
}

impl DirectoryChange {
    /// Makes an empty change.
    pub(crate) fn new(overwrite: Overwrite) -> Self {
        Self {
            overwrite,
            pairs: Vec::new(),
            entries: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Adds a key and its certificate, which are renamed to their final names.
    pub(crate) fn pair(&mut self, key: DraftFile, certificate: DraftFile) {
        self.pairs.push((key, certificate));
    }

    /// Adds entries, which are appended to the index.
    pub(crate) fn index(&mut self, entries: impl IntoIterator<Item = IndexEntry>) {
        self.entries.extend(entries);
    }

    /// Adds a file that is removed, if it exists.
    pub(crate) fn remove(&mut self, path: PathBuf) {
        self.removed.push(path);
    }

    /// Makes the change. The caller holds the directory's lock.
    ///
    /// After an error either nothing has changed, or the next command finishes the change.
    pub(crate) fn commit(self, dir: &Path) -> Result<(), CertgenError> {
        let steps = self.begin(dir)?;
        finish(dir, &steps, StepAttempt::First)
    }

    /// Writes the steps to the journal and returns them.
    fn begin(self, dir: &Path) -> Result<Vec<JournalStep>, CertgenError> {
        let drafts = || self.pairs.iter().flat_map(|(key, other)| [key, other]);
        for draft in drafts() {
            draft.check(self.overwrite)?;
        }
        if self.pairs.len() < MANY {
            drafts().try_for_each(DraftFile::sync)?;
        } else {
            let dirs: BTreeSet<_> = drafts().map(|draft| store::parent(draft.path())).collect();
            dirs.into_iter().try_for_each(store::sync_all)?;
        }
        let mut steps = Vec::with_capacity(self.pairs.len() + self.removed.len() + 1);
        if !self.entries.is_empty() {
            steps.push(JournalStep::Index(index::lines(&self.entries)?));
        }
        for (key, certificate) in &self.pairs {
            steps.push(JournalStep::Pair {
                key: FileMove::of(key)?,
                certificate: FileMove::of(certificate)?,
                overwrite: self.overwrite,
            });
        }
        for path in &self.removed {
            steps.push(JournalStep::Remove(absolute(path)?));
        }
        let text =
            serde_json::to_string(&steps).map_err(|_| CertgenError::NotUtf8(dir.to_owned()))?;
        DraftFile::new(&path(dir), &text, FileAccess::Owner)?.replace()?;
        for (key, certificate) in self.pairs {
            key.keep()?;
            certificate.keep()?;
        }
        Ok(steps)
    }
}

/// Finishes the change that an ended process has begun. The caller holds the directory's lock.
///
/// Fails with [`CertgenError::Unfinished`] if a step cannot be taken.
pub(crate) fn resume(dir: &Path) -> Result<(), CertgenError> {
    let path = path(dir);
    let file = match store::open_own(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    };
    // Its steps rename and remove files, so it has to be this user's own.
    let metadata = file.metadata().map_err(CertgenError::io("read", &path))?;
    if !metadata.is_file() || metadata.nlink() > 1 || metadata.uid() != geteuid().as_raw() {
        return Err(CertgenError::NotOurs {
            path,
            what: "belongs to another user, who can finish the change with any command",
        });
    }
    let text = store::read_text(file, &path)?;
    let steps: Vec<JournalStep> =
        serde_json::from_str(&text).map_err(|_| CertgenError::Unreadable {
            path,
            what: "journal",
        })?;
    finish(dir, &steps, StepAttempt::Again).map_err(|source| CertgenError::Unfinished {
        dir: dir.to_owned(),
        source: Box::new(source),
    })
}

/// Returns true if a change was begun and not finished.
pub(crate) fn is_pending(dir: &Path) -> bool {
    path(dir).exists()
}

/// First or repeated attempt at a step; a repeated step may have been taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepAttempt {
    First,
    Again,
}

/// One part of a change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JournalStep {
    /// Appends lines to the index.
    Index(String),
    /// Gives a key and its certificate their names.
    Pair {
        key: FileMove,
        certificate: FileMove,
        overwrite: Overwrite,
    },
    /// Removes a file.
    Remove(PathBuf),
}

impl JournalStep {
    fn take(&self, dir: &Path, run: StepAttempt) -> Result<(), CertgenError> {
        match self {
            Self::Index(lines) if run == StepAttempt::First => index::append(dir, lines),
            Self::Index(lines) => index::append_missing(dir, lines),
            Self::Pair {
                key,
                certificate,
                overwrite,
            } => {
                key.make(*overwrite)?;
                certificate.make(*overwrite).inspect_err(|refused| {
                    // A key without its certificate is of no use.
                    if matches!(refused, CertgenError::Exists(_)) {
                        drop(fs::remove_file(&key.path));
                    }
                })
            }
            Self::Remove(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(CertgenError::io("remove", path)(error))
                }
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    fn moves(&self) -> Vec<&FileMove> {
        match self {
            Self::Pair {
                key, certificate, ..
            } => vec![key, certificate],
            Self::Index(_) | Self::Remove(_) => Vec::new(),
        }
    }
}

/// Move of a draft to the name of its file.
#[derive(Debug, Serialize, Deserialize)]
struct FileMove {
    draft: PathBuf,
    path: PathBuf,
}

impl FileMove {
    fn of(draft: &DraftFile) -> Result<Self, CertgenError> {
        Ok(Self {
            draft: absolute(draft.place())?,
            path: absolute(draft.path())?,
        })
    }

    /// Renames the draft; does nothing if the draft is gone or is the file already.
    fn make(&self, overwrite: Overwrite) -> Result<(), CertgenError> {
        let failed = CertgenError::io("write", &self.path);
        let renamed = match overwrite {
            Overwrite::Replace => fs::rename(&self.draft, &self.path),
            Overwrite::Refuse => rename_to_free(&self.draft, &self.path),
        };
        match renamed {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Where the rename is a link and an unlink, both names can be of one file.
                let inode = |path| fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()));
                match (inode(&self.draft), inode(&self.path)) {
                    (Ok(draft), Ok(file)) if draft == file => Ok(()),
                    _ => Err(CertgenError::Exists(self.path.clone())),
                }
            }
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Renames a file; fails if the new name exists.
fn rename_to_free(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut draft = TempPath::try_from_path(from)?;
    // `finish` removes the draft, depending on the result of the whole change.
    draft.disable_cleanup(true);
    draft.persist_noclobber(to).map_err(|refused| refused.error)
}

/// Takes the steps, syncs the changed directories and removes the journal.
///
/// On a repeated attempt a file that is in the way is kept, and the other steps are taken.
fn finish(dir: &Path, steps: &[JournalStep], run: StepAttempt) -> Result<(), CertgenError> {
    let taken = steps.iter().try_for_each(|step| match step.take(dir, run) {
        // A file that is in the way stays; the rest of the change does not depend on it.
        Err(CertgenError::Exists(_)) if run == StepAttempt::Again => Ok(()),
        taken => taken,
    });
    let taken = match taken {
        Ok(()) => Ok(()),
        Err(refused @ CertgenError::Exists(_)) => Err(refused),
        Err(failed) => return Err(failed),
    };
    let mut changed = BTreeSet::from([dir]);
    for file in steps.iter().flat_map(JournalStep::moves) {
        changed.insert(store::parent(&file.path));
        // Only a draft that could not get its name is still there.
        drop(fs::remove_file(&file.draft));
    }
    changed.into_iter().try_for_each(store::sync_dir)?;
    let path = path(dir);
    fs::remove_file(&path).map_err(CertgenError::io("remove", &path))?;
    taken
}

fn path(dir: &Path) -> PathBuf {
    dir.join("ca.journal")
}

/// Makes a path absolute, so that a command started in another directory can use it.
fn absolute(path: &Path) -> Result<PathBuf, CertgenError> {
    std::path::absolute(path).map_err(CertgenError::io("find", path))
}

#[cfg(test)]
mod tests;
