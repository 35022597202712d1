//! Watches files for changes, and waits until they are completely written.
//!
//! The kernel's events say when to look; a change is seen from the files themselves, through every
//! symbolic link. So renames, Kubernetes' swaps of a linked directory and file systems without
//! events (which are checked every few seconds) are all handled alike.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use host::file_watch::FileWatch;
//!
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("policy.yaml");
//! std::fs::write(&path, "one")?;
//! let mut watch = FileWatch::new(vec![path.clone()]);
//! std::fs::write(&path, "another")?;
//! watch.changed().await;
//! // From here on only later changes count.
//! watch.follow(vec![path]);
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout};

mod events;
#[cfg(test)]
mod tests;

use events::FileEvents;

/// Time without a change after which the files are read: 200 ms, since an editor writes in several
/// steps.
const SETTLE: Duration = Duration::from_millis(200);
/// Time without a change where a writer could go unnoticed: 4 s.
const QUIET: Duration = Duration::from_secs(4);
/// Interval of the checks that need no event: 5 s.
const LOOK: Duration = Duration::from_secs(5);
/// Interval of the warnings about a writer that is waited for: 1 min.
const REMIND: Duration = Duration::from_mins(1);

/// Watch of a set of files.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<PathBuf>,
    /// The files as they were when they were read last.
    seen: FileStamps,
    /// The files as they were looked at last.
    last: FileStamps,
    /// Time of the check that found the stamps in `last`.
    since: Instant,
    /// True if an event has come since the last check. A change without an event leaves the events
    /// in doubt.
    is_told: bool,
    /// Time of the next warning about a writer that is waited for.
    remind: Option<Instant>,
    events: FileEvents,
}

/// A [`FileStamp`] for each watched file, in their order; `None` for a file that does not exist.
type FileStamps = Vec<Option<FileStamp>>;

/// Metadata that changes when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Result of [`FileWatch::look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilesSeen {
    /// Nothing has changed.
    Same,
    /// A file has changed, and may change again until this time at least.
    Restless(Instant),
    /// A process has a file open and has written to it.
    BeingWritten,
    /// A file has changed, and its write is complete.
    Changed,
}

impl FileWatch {
    /// Creates a watch of these files in their present state. Must be called within a tokio
    /// runtime.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            files: Vec::new(),
            seen: Vec::new(),
            last: Vec::new(),
            since: Instant::now(),
            is_told: false,
            remind: None,
            events: FileEvents::new(),
        };
        watch.follow(files);
        watch
    }

    /// Moves the watch to the tokio runtime that this is called within.
    #[must_use]
    pub fn here(mut self) -> Self {
        self.events = self.events.here();
        self
    }

    /// Replaces the set of watched files; only later changes are reported.
    pub fn follow(&mut self, files: Vec<PathBuf>) {
        self.events.take();
        self.events.forget_changes();
        self.events.watch(&files);
        self.seen = stamps(&files);
        self.last.clone_from(&self.seen);
        self.since = Instant::now();
        self.remind = None;
        self.files = files;
    }

    /// Replaces the set of watched files, but keeps the recorded state of those that are watched
    /// already: a change since then is reported.
    pub fn follow_also(&mut self, files: Vec<PathBuf>) {
        let known: HashMap<_, _> = mem::take(&mut self.files)
            .into_iter()
            .zip(mem::take(&mut self.seen))
            .collect();
        self.events.take();
        let had_changes = self.events.has_changes();
        self.follow(files);
        if had_changes {
            self.events.assume_changes();
        }
        for (file, seen) in self.files.iter().zip(&mut self.seen) {
            if let Some(before) = known.get(file) {
                *seen = *before;
            }
        }
    }

    /// Waits until a file has changed and is complete: no writer is known, and nothing has changed
    /// for a moment. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let wait = match self.look() {
                FilesSeen::Changed => return,
                FilesSeen::Same => LOOK,
                FilesSeen::Restless(until) => {
                    until.saturating_duration_since(Instant::now()).min(LOOK)
                }
                FilesSeen::BeingWritten => {
                    self.remind(Instant::now() + LOOK);
                    LOOK
                }
            };
            if timeout(wait, self.events.come()).await.is_ok() {
                self.is_told = true;
            }
        }
    }

    /// Waits until no writer of a file is known or suspected, whether or not a file has changed.
    /// Cancel safe.
    ///
    /// After reading the files, [`Self::is_as_seen`] tells whether they were written to meanwhile.
    pub async fn whole(&mut self) {
        loop {
            let wait = match self.look() {
                FilesSeen::BeingWritten => LOOK,
                FilesSeen::Restless(until) if !self.events.are_sure(&self.files) => {
                    until.saturating_duration_since(Instant::now())
                }
                FilesSeen::Restless(_) | FilesSeen::Same | FilesSeen::Changed => return,
            };
            self.remind(Instant::now());
            if timeout(wait, self.events.come()).await.is_ok() {
                self.is_told = true;
            }
        }
    }

    /// Returns true if the files are as they were when [`Self::follow`] recorded them, and no write
    /// has been reported since.
    pub fn is_as_seen(&mut self) -> bool {
        self.events.take();
        stamps(&self.files) == self.seen && !self.events.has_changes()
    }

    fn look(&mut self) -> FilesSeen {
        let now = Instant::now();
        self.is_told |= self.events.take();
        let stamps = stamps(&self.files);
        if stamps != self.last {
            // The name may belong to another file by now.
            self.events.watch(&self.files);
            // The event comes with the change, perhaps just behind the first question.
            self.is_told |= self.events.take();
            self.last = stamps;
            self.since = now;
            if !mem::take(&mut self.is_told) {
                self.events.doubt();
            }
        }
        self.is_told = false;
        let written = self.events.last_written();
        let since = written.map_or(self.since, |written| written.max(self.since));
        if self.last == self.seen && !self.events.has_changes() {
            self.remind = None;
            return FilesSeen::Same;
        }
        if self.events.has_writers() {
            return FilesSeen::BeingWritten;
        }
        let rest = if self.events.are_sure(&self.files) {
            SETTLE
        } else {
            QUIET
        };
        if now < since + rest {
            return FilesSeen::Restless(since + rest);
        }
        self.remind = None;
        FilesSeen::Changed
    }

    /// Logs a warning that a writer is waited for: first at the time `first`, then every minute.
    fn remind(&mut self, first: Instant) {
        let now = Instant::now();
        if now >= *self.remind.get_or_insert(first) {
            self.remind = Some(now + REMIND);
            let files = self.events.written_to().join(" ");
            tracing::warn!(
                files,
                "a file is still open for writing; it is read when its writer has closed it"
            );
        }
    }
}

fn stamps(files: &[PathBuf]) -> FileStamps {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Option<FileStamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(FileStamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
