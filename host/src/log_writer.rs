//! Writers of log lines, which never make their callers wait for a slow reader or a full disk.
//!
//! A line is handed over without waiting, or is dropped and counted; one thread does the writing.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use host::log_writer::{LogOutput, Sink};
//!
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("access.log");
//! let log = Sink::open(LogOutput::File(path.clone()), |lost| format!("{lost} lines are lost\n"))?;
//! log.send(b"one line\n".to_vec());
//! log.flush();
//! assert_eq!(std::fs::read_to_string(&path)?, "one line\n");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

mod losses;

use losses::LineLosses;
pub use losses::LogOutage;

/// Time that the writer waits for further lines after a write.
const GATHER: Duration = Duration::from_millis(20);
/// Capacity of the writer's queue, in messages.
const QUEUE: usize = 8192;
/// Size of one write at which no further lines are added to it: 64 KiB.
const BATCH: usize = 64 * 1024;
/// Minimum interval between two lines that report lost ones: 1 second.
const REPORT_LOST: Duration = Duration::from_secs(1);
/// Time limit of [`Sink::flush`].
const FLUSH: Duration = Duration::from_secs(1);
/// Mode of a file that is created: its owner and its group may read it. Records contain personal
/// data: which client connected to which group.
const MODE: u32 = 0o640;

/// The output of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file that is appended to, and opened again on request.
    File(PathBuf),
}

impl fmt::Display for LogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A log that takes lines without ever waiting. Clones write to the same output; when the last of
/// them is dropped, the writer writes what is queued and ends.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: SyncSender<SinkMessage>,
    losses: Arc<LineLosses>,
}

#[derive(Debug)]
enum SinkMessage {
    Line(Vec<u8>),
    Reopen,
    Flush(SyncSender<()>),
}

impl Sink {
    /// Opens the output and starts its writer.
    ///
    /// `tell_lost` makes the line that reports a number of lost lines.
    ///
    /// # Errors
    ///
    /// The output cannot be opened, or the writer's thread cannot be started.
    pub fn open(output: LogOutput, tell_lost: fn(u64) -> String) -> io::Result<Self> {
        let name = output.to_string();
        Self::start(OutputFile::open(output)?, name, tell_lost)
    }

    /// Starts a writer into any other output, which is named `records` in the program's own log.
    ///
    /// # Errors
    ///
    /// The writer's thread cannot be started.
    pub fn into(file: Box<dyn WriteDebug>, tell_lost: fn(u64) -> String) -> io::Result<Self> {
        let target = OutputFile { file, path: None };
        Self::start(target, "records".to_owned(), tell_lost)
    }

    fn start(target: OutputFile, name: String, tell_lost: fn(u64) -> String) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let losses = Arc::new(LineLosses::of(name));
        let writer = SinkWriter {
            target,
            losses: Arc::clone(&losses),
            lost_line: tell_lost,
            torn: false,
        };
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || writer.run(&lines))?;
        Ok(Self { queue, losses })
    }

    /// Hands a line over to the writer, or counts it as lost if the queue is full. The line must
    /// end in a line feed.
    pub fn send(&self, line: Vec<u8>) {
        if self.queue.try_send(SinkMessage::Line(line)).is_err() {
            self.losses
                .lose(1, &"its reader is too slow", Instant::now());
        }
    }

    /// Returns the current [`LogOutage`]; `None` if no lines are being lost.
    pub fn outage(&self) -> Option<LogOutage> {
        self.losses.outage()
    }

    /// Makes the writer open its file again, after the file was moved away. If it cannot be opened,
    /// the old one stays in use.
    pub fn reopen(&self) {
        if self.queue.try_send(SinkMessage::Reopen).is_err() {
            tracing::warn!("the log's writer is busy; send SIGUSR1 again to reopen the log");
        }
    }

    /// Waits until all lines are written, for one second at most.
    pub fn flush(&self) {
        let (done, waits) = sync_channel(1);
        if self.queue.try_send(SinkMessage::Flush(done)).is_ok() {
            // After the time limit nothing more can be done for the lines.
            waits.recv_timeout(FLUSH).ok();
        }
    }
}

/// A sink is also the output of log events: one write is one event.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct OutputFile {
    file: Box<dyn WriteDebug>,
    path: Option<PathBuf>,
}

/// An output that a [`Sink`] can write to.
pub trait WriteDebug: Write + Send + std::fmt::Debug {}
impl<T: Write + Send + std::fmt::Debug> WriteDebug for T {}

impl OutputFile {
    fn open(output: LogOutput) -> io::Result<Self> {
        Ok(match output {
            LogOutput::Stdout => Self {
                file: Box::new(io::stdout()),
                path: None,
            },
            LogOutput::Stderr => Self {
                file: Box::new(io::stderr()),
                path: None,
            },
            LogOutput::File(path) => Self {
                file: Box::new(append(&path)?),
                path: Some(path),
            },
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Box::new(append(path)?);
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE).open(path)
}

struct SinkWriter {
    target: OutputFile,
    losses: Arc<LineLosses>,
    lost_line: fn(u64) -> String,
    torn: bool,
}

impl SinkWriter {
    fn run(mut self, lines: &Receiver<SinkMessage>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            match lines.recv_timeout(REPORT_LOST) {
                Ok(message) => {
                    let is_all = self.take(message, lines, &mut batch);
                    if is_all {
                        // A thread that sends meanwhile need not wake this one, which would cost
                        // the worker more than the line does.
                        thread::sleep(GATHER);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_lost();
        }
    }

    /// Writes one message and the lines that are queued behind it. Returns true if those were all.
    fn take(
        &mut self,
        first: SinkMessage,
        lines: &Receiver<SinkMessage>,
        batch: &mut Vec<u8>,
    ) -> bool {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(SinkMessage::Line(line)) = next {
            batch.extend_from_slice(&line);
            count += 1;
            next = if batch.len() < BATCH {
                lines.try_recv().ok()
            } else {
                None
            };
        }
        let is_all = batch.len() < BATCH;
        if let Err(error) = self.write(batch) {
            self.losses.lose(count, &error, Instant::now());
        }
        batch.clear();
        match next {
            Some(SinkMessage::Reopen) => match self.target.reopen() {
                Ok(()) => self.torn = false,
                Err(error) => tracing::error!(%error, "cannot reopen the log"),
            },
            // The receiver is gone if its thread no longer waits.
            Some(SinkMessage::Flush(done)) => drop(done.try_send(())),
            Some(SinkMessage::Line(_)) | None => {}
        }
        is_all
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // A write that failed half way left a torn line, which must not run into the next one.
        let mended = if self.torn {
            self.target.file.write_all(b"\n")
        } else {
            Ok(())
        };
        let written = mended
            .and_then(|()| self.target.file.write_all(bytes))
            .and_then(|()| self.target.file.flush());
        self.torn = written.is_err();
        written
    }

    fn report_lost(&mut self) {
        let untold = self.losses.unreported();
        if untold > 0 && self.write((self.lost_line)(untold).as_bytes()).is_ok() {
            self.losses.reported(untold);
        }
        self.losses.end_if_over(Instant::now(), REPORT_LOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lost: u64) -> String {
        format!("lost {lost}\n")
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many_it_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = append(&path).unwrap();
        let target = OutputFile {
            file: Box::new(append(Path::new("/dev/full")).unwrap()),
            path: None,
        };
        let losses = Arc::new(LineLosses::of("log".to_owned()));
        let mut writer = SinkWriter {
            target,
            losses: Arc::clone(&losses),
            lost_line: told,
            torn: false,
        };

        let (_queue, lines) = sync_channel(1);
        let message = SinkMessage::Line(b"one\ntwo\n".to_vec());
        writer.take(message, &lines, &mut Vec::new());
        writer.report_lost();
        assert_eq!(losses.unreported(), 1, "nothing could be told yet");
        assert_eq!(losses.outage().map(|outage| outage.lost), Some(1));

        writer.target.file = Box::new(file);
        writer.report_lost();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "\nlost 1\n");
    }

    #[test]
    fn a_reader_that_stalls_holds_up_nobody() {
        let (reader, pipe) = io::pipe().unwrap();
        let (queue, lines) = sync_channel(QUEUE);
        let losses = Arc::new(LineLosses::of("log".to_owned()));
        let sink = Sink {
            queue,
            losses: Arc::clone(&losses),
        };
        let target = OutputFile {
            file: Box::new(pipe),
            path: None,
        };
        let writer = SinkWriter {
            target,
            losses: Arc::clone(&losses),
            lost_line: told,
            torn: false,
        };
        let thread = thread::spawn(move || writer.run(&lines));

        for _ in 0..3 * QUEUE {
            sink.send(vec![b'x'; 1024]);
        }

        assert!(
            sink.outage().is_some(),
            "what nobody reads is lost, not waited for"
        );
        drop(sink);
        drop(reader);
        thread.join().unwrap();
    }

    #[test]
    fn a_file_is_created_for_its_owner_and_its_group_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode_of = |file: File| file.metadata().unwrap().permissions().mode() & 0o777;
        let log = append(&dir.path().join("log")).unwrap();
        let mut open = OpenOptions::new();
        open.append(true).create(true).mode(0o777);
        // The process's umask takes some bits away.
        let allowed = mode_of(open.open(dir.path().join("open")).unwrap());
        assert_eq!(mode_of(log), 0o640 & allowed);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let sink = Sink::open(LogOutput::File(path.clone()), told).unwrap();

        sink.send(b"old\n".to_vec());
        sink.flush();
        std::fs::rename(&path, &moved).unwrap();
        sink.reopen();
        sink.send(b"new\n".to_vec());
        sink.flush();

        assert_eq!(std::fs::read_to_string(moved).unwrap(), "old\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "new\n");
    }
}
