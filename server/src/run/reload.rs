//! Reloads of the running gateway: a thread watches the files, and reads them without delaying the
//! workers. It tries again as long as the cause of a failure is not in the files themselves.

use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::files::files;
use crate::load::{self, LoadError};
use gateway::Gateway;
use gateway::pending_reload::{PendingReload, ReloadAttempt};
use gateway::reload::{ApplyError, ReloadReport};
use host::file_watch::FileWatch;
use host::priority;

/// Pause of the thread that reloads after it has panicked: 1 s.
const PAUSE: Duration = Duration::from_secs(1);
/// Limit of queued reports to the main loop.
const REPORTS: usize = 16;

/// Report of the [`ReloadThread`] to the main loop.
#[derive(Debug)]
pub(super) enum ReloadEvent {
    /// A reload has begun: the files are being read.
    Began,
    /// A reload has ended, successfully or not.
    Ended(ReloadOutcome),
}

/// Result of one reload.
#[derive(Debug)]
pub(super) struct ReloadOutcome {
    pub(super) applied: Result<ReloadReport, ReloadError>,
    pub(super) took: Duration,
    /// Time until the next attempt, if there is one.
    pub(super) retry_in: Option<Duration>,
}

/// Reason why a reload failed.
#[derive(Debug, Error)]
pub(super) enum ReloadError {
    /// The policy or a file that it names cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The policy cannot be put in force.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The thread that reads could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A file changed while it was read, and may be incomplete. It is read again when it no longer
    /// changes.
    #[error("a file changed while it was read")]
    Changing,
    /// The attempt panicked.
    #[error("the attempt panicked")]
    Panicked,
}

impl ReloadError {
    /// Returns true if another attempt with the same files may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Load(error) => error.may_pass(),
            Self::Changing => false,
            Self::Apply(_) | Self::Thread(_) | Self::Panicked => true,
        }
    }
}

/// Handle to the thread that reloads. When it is dropped, the thread ends after its present
/// attempt.
#[derive(Debug)]
pub(super) struct ReloadThread {
    ask: mpsc::Sender<()>,
    reports: mpsc::Receiver<ReloadEvent>,
}

impl ReloadThread {
    /// Starts the thread.
    pub(super) fn start(
        gateway: Arc<Gateway>,
        policy: PathBuf,
        watch: FileWatch,
    ) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel(1);
        let (reporting, reports) = mpsc::channel(REPORTS);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || {
                let reloader = Reloader {
                    gateway,
                    policy,
                    reporting,
                };
                let (mut watch, mut asked) = (Some(watch), asked);
                persist(|| runtime.block_on(reloader.keep_in_force(watch.take(), &mut asked)));
            })?;
        Ok(Self { ask, reports })
    }

    /// Requests a reload, whether or not a file has changed.
    pub(super) fn ask(&self) {
        // A request that is queued already will read the present files.
        self.ask.try_send(()).ok();
    }

    /// Waits for the next report; never returns if the thread has ended. Cancel safe.
    pub(super) async fn report(&mut self) -> ReloadEvent {
        match self.reports.recv().await {
            Some(report) => report,
            None => pending().await,
        }
    }
}

/// State of the thread behind a [`ReloadThread`].
struct Reloader {
    gateway: Arc<Gateway>,
    policy: PathBuf,
    reporting: mpsc::Sender<ReloadEvent>,
}

impl Reloader {
    /// Reloads when a file changes, when a reload is requested and when a retry is due, until the
    /// [`ReloadThread`] is dropped.
    ///
    /// `watch` is `None` after a panic: the state of the files is unknown then, and they are read
    /// again.
    async fn keep_in_force(&self, watch: Option<FileWatch>, asked: &mut mpsc::Receiver<()>) {
        let mut pending = PendingReload::default();
        let mut watch = if let Some(watch) = watch {
            watch.here()
        } else {
            pending.request(Instant::now());
            FileWatch::new(files(&self.policy, self.gateway.snapshot().policy()))
        };
        loop {
            if pending.due().is_some_and(|due| due <= Instant::now()) {
                // A file that is only partly written is not read for a requested reload either.
                watch.whole().await;
                if self.reload(&mut watch, &mut pending).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = watch.changed() => pending.request(Instant::now()),
                request = asked.recv() => match request {
                    Some(()) => pending.request(Instant::now()),
                    None => return,
                },
                () = until(pending.due()) => {}
            }
        }
    }

    /// Makes one attempt and reports it. An error means that the receiver of the reports was
    /// dropped.
    async fn reload(
        &self,
        watch: &mut FileWatch,
        pending: &mut PendingReload,
    ) -> Result<(), mpsc::error::SendError<ReloadEvent>> {
        self.reporting.send(ReloadEvent::Began).await?;
        let begin = Instant::now();
        // The files are stamped before they are read: a write in between is seen as a new change.
        watch.follow(files(&self.policy, self.gateway.snapshot().policy()));
        let attempt = AssertUnwindSafe(|| self.attempt(watch));
        let applied = catch_unwind(attempt).unwrap_or(Err(ReloadError::Panicked));
        let attempted = match &applied {
            Ok(_) => ReloadAttempt::Done,
            Err(error) if error.may_pass() => ReloadAttempt::Hindered,
            Err(_) => ReloadAttempt::Wrong,
        };
        if applied.is_ok() {
            watch.follow_also(files(&self.policy, self.gateway.snapshot().policy()));
        }
        pending.attempted(attempted, Instant::now());
        let now = Instant::now();
        let due = pending.due();
        let ended = ReloadOutcome {
            applied,
            took: begin.elapsed(),
            retry_in: due.map(|due| due.saturating_duration_since(now)),
        };
        self.reporting.send(ReloadEvent::Ended(ended)).await
    }

    /// Reads the policy again, and all files that it names, and puts the difference in force. Files
    /// that were written meanwhile may be incomplete, and are not used.
    fn attempt(&self, watch: &mut FileWatch) -> Result<ReloadReport, ReloadError> {
        let before = self.gateway.snapshot();
        // Only reading has low priority: it takes no lock that the workers or the main loop wait
        // for.
        let read = priority::lowest(|| load::read_next(&self.policy, &before));
        let next = read.map_err(ReloadError::Thread)??;
        if !watch.is_as_seen() {
            return Err(ReloadError::Changing);
        }
        Ok(self.gateway.apply(next)?)
    }
}

/// Runs `doing` until it returns. After a panic it runs again, because otherwise no later change
/// would take effect.
fn persist(mut doing: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut doing)).is_err() {
        tracing::error!("the reload thread panicked; it is restarted and reads the files again");
        std::thread::sleep(PAUSE);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::run::test_support::gateway;

    #[test]
    fn what_keeps_the_files_in_force_begins_again_after_a_panic() {
        let mut begun = 0;
        persist(|| {
            begun += 1;
            assert_eq!(begun, 2, "the first one fails");
        });
        assert_eq!(begun, 2);
    }

    #[tokio::test]
    async fn the_files_are_read_again_when_it_is_not_known_what_was_seen_of_them() {
        let (files, gateway) = gateway();
        let (reporting, mut reports) = mpsc::channel(REPORTS);
        let (_ask, mut asked) = mpsc::channel(1);
        let reloader = Reloader {
            gateway,
            policy: files.dir().join("policy.yaml"),
            reporting,
        };
        let keeping = reloader.keep_in_force(None, &mut asked);
        let reported = async {
            assert!(matches!(reports.recv().await, Some(ReloadEvent::Began)));
            match reports.recv().await {
                Some(ReloadEvent::Ended(ended)) => ended.applied.expect("the files are good"),
                other => panic!("{other:?}"),
            }
        };
        let applied = tokio::select! {
            () = keeping => panic!("it goes on"),
            applied = timeout(Duration::from_secs(20), reported) => applied.expect("they are read"),
        };
        assert_eq!(applied.generation, 2);
    }
}
