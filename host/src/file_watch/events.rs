//! The kernel's events of a set of files (inotify(7)): they say when to check the files, and
//! whether a process is writing.
//!
//! A file that was written to and not closed since counts as being written: a process that writes
//! in place closes the file at the end, even if it is killed. Mapped memory and writers on other
//! machines cause no events; after a change that no event announced, the events are in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Directory events that may change the file that a path leads to, or end a write. Writes are not
/// among them: a log that grows in the same directory is not a change.
const IN_DIRECTORIES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);
/// File events that begin and end a write.
const IN_FILES: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE);
/// Size of the buffer for events: 4 KiB.
const CHUNK: usize = 4096;

/// Events of the files and of the directories on the way to them.
#[derive(Debug)]
pub(super) struct FileEvents {
    queue: Option<AsyncFd<OwnedFd>>,
    /// Watch descriptors of the watched directories.
    directories: BTreeSet<i32>,
    /// Watch descriptors of the watched files, with their paths.
    files: BTreeMap<i32, PathBuf>,
    /// Names of the watched files: events of other names in a directory are ignored.
    names: BTreeSet<Vec<u8>>,
    state: EventState,
}

/// State derived from the events of a [`FileEvents`].
#[derive(Debug, Default)]
struct EventState {
    /// The files that were written to and not closed since, by their watch descriptors.
    writers: BTreeSet<i32>,
    /// Names that were created in a directory (given by its watch descriptor), and that no writer
    /// has closed or moved there since.
    made: BTreeSet<(i32, Vec<u8>)>,
    /// Time of the last write to a file.
    written: Option<Instant>,
    /// True if a file was written to since [`FileEvents::forget_changes`].
    has_changes: bool,
    /// True if a change came without an event, or if events were lost.
    is_in_doubt: bool,
    /// True if a file cannot be watched.
    is_blind: bool,
}

impl FileEvents {
    /// Creates an event queue that watches no file yet. Must be called within a tokio runtime.
    /// Without inotify a warning is logged, and no events come.
    pub(super) fn new() -> Self {
        let queue = queue()
            .and_then(registered)
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "no file events (inotify); files are checked every few seconds"
                );
            })
            .ok();
        Self {
            queue,
            directories: BTreeSet::new(),
            files: BTreeMap::new(),
            names: BTreeSet::new(),
            state: EventState::default(),
        }
    }

    /// Moves the queue to the tokio runtime that this is called within.
    pub(super) fn here(mut self) -> Self {
        self.queue = self
            .queue
            .and_then(|queue| registered(queue.into_inner()).ok());
        self
    }

    /// Watches these files and the directories on the way to them, and nothing else. Files that
    /// cannot be watched are noted: [`Self::are_sure`] is false then.
    pub(super) fn watch(&mut self, files: &[PathBuf]) {
        let Some(queue) = &self.queue else {
            return;
        };
        // A file that was replaced by another of the same name is watched again; a file that cannot
        // be watched is still checked by its metadata.
        let all: BTreeSet<PathBuf> = files.iter().flat_map(|file| directories(file)).collect();
        let directories = all
            .iter()
            .filter_map(|directory| inotify::add_watch(queue, directory, IN_DIRECTORIES).ok())
            .collect();
        let regular = files.iter().filter(|file| file.is_file());
        let watched: Vec<Option<(i32, PathBuf)>> = regular
            .map(|file| {
                let number = inotify::add_watch(queue, file, IN_FILES).ok()?;
                Some((number, file.clone()))
            })
            .collect();
        self.state.is_blind = watched.contains(&None);
        let watched: BTreeMap<_, _> = watched.into_iter().flatten().collect();
        let gone = self.files.keys();
        let gone = gone.filter(|file| !watched.contains_key(file));
        for &gone in self.directories.difference(&directories).chain(gone) {
            // What was removed is no longer watched anyway.
            inotify::remove_watch(queue, gone).ok();
        }
        self.state.writers.retain(|file| watched.contains_key(file));
        self.state
            .made
            .retain(|(directory, _)| directories.contains(directory));
        self.directories = directories;
        self.files = watched;
        let names = files.iter().filter_map(|file| file.file_name());
        self.names = names.map(|name| name.as_bytes().to_vec()).collect();
    }

    /// Processes all queued events. Returns true if there were any.
    pub(super) fn take(&mut self) -> bool {
        self.queue
            .as_ref()
            .is_some_and(|queue| self.state.take(queue, &self.files, &self.names))
    }

    /// Waits for events and processes them; never returns if there is no queue. Cancel safe.
    pub(super) async fn come(&mut self) {
        let Some(queue) = &self.queue else {
            return pending().await;
        };
        loop {
            let Ok(mut ready) = queue.readable().await else {
                return pending().await;
            };
            let has_come = self.state.take(queue, &self.files, &self.names);
            ready.clear_ready();
            if has_come {
                return;
            }
        }
    }

    /// Returns true if a file was written to and not closed since.
    pub(super) fn has_writers(&self) -> bool {
        !self.state.writers.is_empty()
    }

    /// Returns the paths of the files that were written to and not closed since.
    pub(super) fn written_to(&self) -> Vec<String> {
        let writers = self.state.writers.iter();
        writers
            .filter_map(|file| Some(self.files.get(file)?.display().to_string()))
            .collect()
    }

    /// Returns true if a file was written to since [`Self::forget_changes`].
    pub(super) fn has_changes(&self) -> bool {
        self.state.has_changes
    }

    /// Returns the time of the last write to a file.
    pub(super) fn last_written(&self) -> Option<Instant> {
        self.state.written
    }

    /// Forgets the changes so far, and doubts about them. Writers that are still writing are
    /// remembered.
    pub(super) fn forget_changes(&mut self) {
        self.state.has_changes = false;
        self.state.is_in_doubt = false;
        self.state.made.clear();
    }

    /// Records that a file was written to.
    pub(super) fn assume_changes(&mut self) {
        self.state.has_changes = true;
    }

    /// Records a change that came without an event: others of that kind may follow.
    pub(super) fn doubt(&mut self) {
        self.state.is_in_doubt = true;
    }

    /// Returns true if the events would show every process that is writing to one of these files.
    pub(super) fn are_sure(&self, files: &[PathBuf]) -> bool {
        let EventState {
            made,
            is_in_doubt,
            is_blind,
            ..
        } = &self.state;
        // A symbolic link is complete when it is created.
        let is_open = |name: &[u8]| {
            let mut named = files
                .iter()
                .filter(|file| file.file_name().is_some_and(|own| own.as_bytes() == name));
            named.any(|file| !file.is_symlink())
        };
        let is_made = made.iter().any(|(_, name)| is_open(name));
        self.queue.is_some() && !is_in_doubt && !is_blind && !is_made
    }
}

impl EventState {
    fn take(
        &mut self,
        queue: &AsyncFd<OwnedFd>,
        files: &BTreeMap<i32, PathBuf>,
        names: &BTreeSet<Vec<u8>>,
    ) -> bool {
        let mut bytes = [MaybeUninit::uninit(); CHUNK];
        let mut reader = inotify::Reader::new(queue, &mut bytes);
        let mut has_come = false;
        // It ends with an error when there is nothing more.
        while let Ok(event) = reader.next() {
            has_come = true;
            let (watch, what) = (event.wd(), event.events());
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.lost();
            } else if files.contains_key(&watch) {
                self.of_file(watch, what);
            } else if let Some(name) = event.file_name()
                && names.contains(name.to_bytes())
            {
                self.of_name(watch, name.to_bytes(), what);
            }
        }
        has_come
    }

    /// Handles an overflow of the queue: the lost events are unknown.
    fn lost(&mut self) {
        self.writers.clear();
        self.is_in_doubt = true;
        self.has_changes = true;
        self.written = Some(Instant::now());
    }

    fn of_file(&mut self, file: i32, what: ReadFlags) {
        if what.contains(ReadFlags::MODIFY) {
            self.writers.insert(file);
            self.has_changes = true;
            self.written = Some(Instant::now());
        }
        if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::IGNORED) {
            self.writers.remove(&file);
        }
    }

    fn of_name(&mut self, directory: i32, name: &[u8], what: ReadFlags) {
        let key = (directory, name.to_vec());
        if what.contains(ReadFlags::CREATE) {
            self.made.insert(key);
        } else if what.intersects(
            ReadFlags::CLOSE_WRITE
                | ReadFlags::DELETE
                | ReadFlags::MOVED_FROM
                | ReadFlags::MOVED_TO,
        ) {
            self.made.remove(&key);
        }
    }
}

/// Creates an inotify instance, non-blocking and closed on exec.
fn queue() -> io::Result<OwnedFd> {
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    Ok(inotify::init(flags)?)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe: it wants to be promised that the descriptor is owned, as this one is"
)]
fn registered(queue: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(queue)
}

/// Returns the directories whose entries decide which file a path leads to: along the path as it is
/// written, and along the targets of its symbolic links.
fn directories(file: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut next = Some(file.to_owned());
    // As many links as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let Some(path) = next else { break };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        // A directory on the way may itself be the link that is swapped.
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
            directories.push(above.to_owned());
        }
        directories.push(parent);
    }
    directories
}
