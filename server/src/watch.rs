//! Notices that the policy or a file that it names has changed.
//!
//! The kernel's events say when to look; what has changed is seen from the files themselves,
//! through every symbolic link. So renames, Kubernetes' swaps of a linked folder and file systems
//! without events (which are looked at every few seconds) come out the same.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// How long the files must be left alone before they are read: an editor writes in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// How long a writer that never rests can put off the reading.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);
/// How often the files are looked at without any event.
const LOOK: Duration = Duration::from_secs(5);

/// What may change what a path leads to, or a file's content. Not every write: a log that grows in the same
/// folder is no news.
const NEWS: inotify::WatchFlags = inotify::WatchFlags::CREATE
    .union(inotify::WatchFlags::DELETE)
    .union(inotify::WatchFlags::DELETE_SELF)
    .union(inotify::WatchFlags::MOVE)
    .union(inotify::WatchFlags::MOVE_SELF)
    .union(inotify::WatchFlags::CLOSE_WRITE)
    .union(inotify::WatchFlags::ATTRIB)
    .union(inotify::WatchFlags::ONLYDIR);

/// Watches a set of files.
#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    /// The kernel's numbers for the folders that are watched.
    watched: BTreeSet<i32>,
    events: Option<AsyncFd<OwnedFd>>,
}

/// What changes when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Watches these files as they are now. It must be called within a runtime.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let events = events()
            .inspect_err(|error| {
                tracing::warn!(%error, "file events cannot be had; files are looked at every {LOOK:?}");
            })
            .ok();
        let mut watch = Self {
            files: Vec::new(),
            seen: Vec::new(),
            watched: BTreeSet::new(),
            events,
        };
        watch.follow(files);
        watch
    }

    /// Watches these files from now on.
    pub fn follow(&mut self, files: Vec<PathBuf>) {
        if let Some(events) = &self.events {
            // Watching anew what was replaced by a folder of the same name; what cannot be watched is
            // still looked at.
            let folders: BTreeSet<PathBuf> = files.iter().flat_map(|file| folders(file)).collect();
            let watched = folders
                .iter()
                .filter_map(|folder| inotify::add_watch(events, folder, NEWS).ok())
                .collect();
            for &gone in self.watched.difference(&watched) {
                // A folder that was removed is no longer watched anyway.
                inotify::remove_watch(events, gone).ok();
            }
            self.watched = watched;
        }
        self.seen = files.iter().map(|file| stamp(file)).collect();
        self.files = files;
    }

    /// Watches these files from now on, and those among them that it watches already as they were seen:
    /// a change since then is one.
    pub fn follow_also(&mut self, files: Vec<PathBuf>) {
        let known: HashMap<_, _> = mem::take(&mut self.files)
            .into_iter()
            .zip(mem::take(&mut self.seen))
            .collect();
        self.follow(files);
        for (file, seen) in self.files.iter().zip(&mut self.seen) {
            if let Some(before) = known.get(file) {
                *seen = *before;
            }
        }
    }

    /// Waits until a file has changed and has been left alone for a moment. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            if timeout(LOOK, self.news()).await.is_ok() {
                self.settle().await;
            }
            if self
                .files
                .iter()
                .map(|file| stamp(file))
                .ne(self.seen.iter().copied())
            {
                return;
            }
        }
    }

    async fn settle(&self) {
        let quiet = async { while timeout(SETTLE, self.news()).await.is_ok() {} };
        // A writer that never rests is read in the middle of its work, and again later.
        drop(timeout(LONGEST_SETTLE, quiet).await);
    }

    /// Waits for events, and takes all that there are: what they say is seen from the files.
    async fn news(&self) {
        let Some(events) = &self.events else {
            return std::future::pending().await;
        };
        let mut bytes = [0; 4096];
        loop {
            let Ok(mut ready) = events.readable().await else {
                return std::future::pending().await;
            };
            let mut came = false;
            let end = loop {
                match rustix::io::read(events, &mut bytes) {
                    Ok(read) if read > 0 => came = true,
                    end => break end,
                }
            };
            if end == Err(Errno::WOULDBLOCK) {
                ready.clear_ready();
            }
            if came {
                return;
            }
        }
    }
}

/// Where the kernel tells of events.
#[expect(
    deprecated,
    reason = "its successor is unsafe: it wants to be promised that the descriptor is owned, as this one is"
)]
fn events() -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(inotify::init(
        inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC,
    )?)
}

/// The folders whose entries decide what a path leads to: along the path as it is written, and
/// along where its links lead.
fn folders(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut next = Some(file.to_owned());
    // As many links as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Some(path) = next else { break };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        // A folder on the way may itself be the link that is swapped.
        next = std::fs::read_link(&path)
            .map(|target| parent.join(target))
            .or_else(|_| {
                let link = std::fs::read_link(&parent)?;
                let above = parent.parent().unwrap_or(Path::new("."));
                Ok::<_, std::io::Error>(above.join(link).join(path.file_name().unwrap_or_default()))
            })
            .ok();
        if let Some(above) = parent
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
            && parent.is_symlink()
        {
            folders.push(above.to_owned());
        }
        folders.push(parent);
    }
    folders
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(Stamp {
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

    async fn notices(watch: &mut Watch) {
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
        let mut watch = Watch::new(vec![file.clone()]);

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
        let mut watch = Watch::new(vec![policy.clone()]);
        fs::write(&policy, "another").unwrap();
        watch.follow_also(vec![policy.clone(), named.clone()]);
        notices(&mut watch).await;
        assert_eq!(watch.files, [policy, named]);
    }

    #[tokio::test]
    async fn a_folder_that_is_swapped_as_kubernetes_does_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (folder, text) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("policy.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
        let mut watch = Watch::new(vec![at("policy.yaml")]);

        for folder in ["..2", "..3"] {
            symlink(folder, at("..data_tmp")).unwrap();
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
        let watch = Watch::new(vec![file.clone()]);
        for _ in 0..10 {
            log.write_all(b"line\n").unwrap();
        }
        let now = timeout(Duration::ZERO, watch.news()).await;
        assert!(now.is_err(), "the events of writes are there at once");
        fs::write(&file, "two").unwrap();
        timeout(Duration::from_secs(20), watch.news())
            .await
            .expect("this is news");
    }

    #[tokio::test(start_paused = true)]
    async fn other_files_of_the_folder_are_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(vec![file]);
        fs::write(dir.path().join("access.log"), "line").unwrap();
        assert!(
            timeout(Duration::from_mins(1), watch.changed())
                .await
                .is_err()
        );
    }
}
