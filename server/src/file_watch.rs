//! Notices that the policy or a file that it names has changed, and waits until it is whole.
//!
//! The kernel's events say when to look; what has changed is seen from the files themselves,
//! through every symbolic link. So renames, Kubernetes' swaps of a linked directory and file systems
//! without events (which are looked at every few seconds) come out the same.

use std::collections::HashMap;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout};

mod events;

use events::FileEvents;

/// How long the files must be left alone before they are read: an editor writes in several steps.
const SETTLE: Duration = Duration::from_millis(200);
/// The same where it cannot be known whether somebody still writes.
const QUIET: Duration = Duration::from_secs(4);
/// How often the files are looked at without any event.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is said that a writer is waited for.
const REMIND: Duration = Duration::from_mins(1);

/// Watches a set of files.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<PathBuf>,
    /// The files as they were when they were read last.
    seen: FileStamps,
    /// The files as they were looked at last.
    last: FileStamps,
    /// Since when they look like that.
    since: Instant,
    /// Whether an event told of what they look like now.
    is_told: bool,
    /// When it is to be said that a writer is waited for.
    remind: Option<Instant>,
    events: FileEvents,
}

/// One for each file that is there.
type FileStamps = Vec<Option<FileStamp>>;

/// What changes when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilesSeen {
    /// Nothing has changed.
    Same,
    /// Something has changed, and may go on to, until then at least.
    Restless(Instant),
    /// Somebody has a file open and has written to it.
    BeingWritten,
    /// Something has changed, and is whole.
    Changed,
}

impl FileWatch {
    /// Watches these files as they are now. It must be called within a runtime.
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

    /// The same, for the runtime that this is called within.
    #[must_use]
    pub fn here(mut self) -> Self {
        self.events = self.events.here();
        self
    }

    /// Watches these files from now on.
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

    /// Watches these files from now on, and those among them that it watches already as they were seen:
    /// a change since then is one.
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

    /// Waits until a file has changed and is whole: nobody is known to be writing, and it has been left
    /// alone for a moment. Cancel safe.
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

    /// Waits until nobody is known or suspected to be writing to a file, whether or not it has changed. Cancel safe.
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

    /// Whether the files are as they were when they were followed, and nobody is known to be writing.
    pub fn is_as_seen(&mut self) -> bool {
        self.events.take();
        stamps(&self.files) == self.seen && !self.events.has_changes()
    }

    fn look(&mut self) -> FilesSeen {
        let now = Instant::now();
        self.is_told |= self.events.take();
        let stamps = stamps(&self.files);
        if stamps != self.last {
            // A file of this name may be another one by now.
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

    /// Says that a writer is waited for, at `first` for the first time.
    fn remind(&mut self, first: Instant) {
        let now = Instant::now();
        if now >= *self.remind.get_or_insert(first) {
            self.remind = Some(now + REMIND);
            let files = self.events.written_to().join(" ");
            tracing::warn!(
                files,
                "a file is still being written to; it is read when its writer has closed it"
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    async fn notices(watch: &mut FileWatch) {
        timeout(Duration::from_secs(20), watch.changed())
            .await
            .expect("a change is noticed");
        let files = watch.files.clone();
        watch.follow(files);
    }

    #[tokio::test]
    async fn writes_renames_and_swapped_links_are_all_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(vec![file.clone()]);

        fs::write(&file, "two").unwrap();
        notices(&mut watch).await;

        fs::write(dir.path().join("new"), "three").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        notices(&mut watch).await;

        fs::remove_file(&file).unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_file_that_changes_before_all_files_are_known_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (policy, named) = (dir.path().join("policy.yaml"), dir.path().join("ca.crt"));
        fs::write(&policy, "one").unwrap();
        fs::write(&named, "one").unwrap();
        let mut watch = FileWatch::new(vec![policy.clone()]);
        fs::write(&policy, "another").unwrap();
        watch.follow_also(vec![policy.clone(), named.clone()]);
        notices(&mut watch).await;
        assert_eq!(watch.files, [policy, named]);
    }

    #[tokio::test]
    async fn a_directory_that_is_swapped_as_kubernetes_does_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (directory, text) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
            fs::create_dir(at(directory)).unwrap();
            fs::write(at(directory).join("policy.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
        let mut watch = FileWatch::new(vec![at("policy.yaml")]);

        for directory in ["..2", "..3"] {
            symlink(directory, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            notices(&mut watch).await;
        }
    }

    #[tokio::test]
    async fn a_log_that_grows_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut log = fs::File::create(dir.path().join("access.log")).unwrap();
        let mut watch = FileWatch::new(vec![file.clone()]);
        for _ in 0..10 {
            log.write_all(b"line\n").unwrap();
        }
        assert!(
            !watch.events.take(),
            "the events of writes are there at once"
        );
        fs::write(&file, "two").unwrap();
        timeout(Duration::from_secs(20), watch.events.come())
            .await
            .expect("this is news");
    }

    #[tokio::test(start_paused = true)]
    async fn other_files_of_the_directory_are_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(vec![file]);
        fs::write(dir.path().join("access.log"), "line").unwrap();
        assert!(
            timeout(Duration::from_mins(1), watch.changed())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_somebody_still_writes_to_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(vec![file.clone()]);
        for replace in [false, true] {
            if replace {
                fs::remove_file(&file).unwrap();
            }
            let mut writer = fs::File::create(&file).unwrap();
            writer.write_all(b"half").unwrap();
            let mut now = false;
            if replace {
                // It is seen that the file is another one, and from then on who writes to it.
                now = timeout(QUIET / 2, watch.changed()).await.is_ok();
                writer.write_all(b", half").unwrap();
            }
            now |= timeout(Duration::from_hours(1), watch.changed())
                .await
                .is_ok();
            assert!(!now, "a writer that waits for an hour may go on yet");
            writer.write_all(b" and half").unwrap();
            drop(writer);
            notices(&mut watch).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_leaves_no_other_trace_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(vec![file.clone()]);
        // Within one tick of the file system's clock the two look the same.
        fs::write(&file, "two").unwrap();
        let same = super::stamps(&watch.files);
        watch.seen.clone_from(&same);
        watch.last = same;
        assert!(!watch.is_as_seen());
        notices(&mut watch).await;
    }
}
