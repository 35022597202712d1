//! An upgrade that is under way: at most one at a time.

use std::future::pending;
use std::io;
use std::path::PathBuf;

use tokio::sync::oneshot;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::admin::Upgraded;
use crate::upgrade::{Candidate, Successor, UpgradeError};

/// Where the answer to a request goes.
pub(super) type Answer = oneshot::Sender<Result<Upgraded, UpgradeError>>;

/// Perhaps an upgrade that is under way. Dropping it kills the process that was being started.
#[derive(Debug, Default)]
pub(super) struct Attempt(Option<Underway>);

#[derive(Debug)]
enum Underway {
    /// A process is being started.
    Starting(Wanted, AbortOnDropHandle<Result<Candidate, UpgradeError>>),
    /// It is ready, and takes over.
    HandingOver(Over, AbortOnDropHandle<Result<Successor, UpgradeError>>),
}

/// What is known of an upgrade when the process takes over.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) wanted: Wanted,
    pub(super) upgraded: Upgraded,
}

/// A stage of an upgrade that has ended.
#[derive(Debug)]
pub(super) enum Stage {
    /// A process was started, or could not be.
    Started(Wanted, Result<Candidate, UpgradeError>),
    /// It has taken over, or could not.
    TakenOver(Over, Result<Successor, UpgradeError>),
}

/// What was asked for, and by whom: a signal if there is nowhere to answer.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) dry_run: bool,
    pub(super) binary: PathBuf,
    pub(super) answer: Option<Answer>,
}

impl Attempt {
    /// Starts a process by `starting`, unless one is being started.
    pub(super) fn begin(
        &mut self,
        tasks: &TaskTracker,
        wanted: Wanted,
        starting: impl Future<Output = Result<Candidate, UpgradeError>> + Send + 'static,
    ) {
        if self.0.is_some() {
            wanted.failed(UpgradeError::Underway);
            return;
        }
        let starting = AbortOnDropHandle::new(tasks.spawn(starting));
        self.0 = Some(Underway::Starting(wanted, starting));
    }

    /// Has the process that is ready take over by `taking`.
    pub(super) fn hand_over(
        &mut self,
        tasks: &TaskTracker,
        over: Over,
        taking: impl Future<Output = Result<Successor, UpgradeError>> + Send + 'static,
    ) {
        let taking = AbortOnDropHandle::new(tasks.spawn(taking));
        self.0 = Some(Underway::HandingOver(over, taking));
    }

    /// Whether a process is just taking over, which must not be broken off.
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(self.0, Some(Underway::HandingOver(..)))
    }

    /// Kills a process that is being started.
    pub(super) fn give_up(&mut self) {
        if let Some(Underway::Starting(..)) = &self.0
            && let Some(Underway::Starting(wanted, _)) = self.0.take()
        {
            wanted.failed(UpgradeError::Draining);
        }
    }

    /// Waits for the end of a stage; for ever if nothing is under way. Cancel safe.
    pub(super) async fn next(&mut self) -> Stage {
        match &mut self.0 {
            Some(Underway::Starting(_, starting)) => {
                let candidate = ended(starting).await;
                if let Some(Underway::Starting(wanted, _)) = self.0.take() {
                    return Stage::Started(wanted, candidate);
                }
            }
            Some(Underway::HandingOver(_, taking)) => {
                let successor = ended(taking).await;
                if let Some(Underway::HandingOver(over, _)) = self.0.take() {
                    return Stage::TakenOver(over, successor);
                }
            }
            None => {}
        }
        pending().await
    }
}

async fn ended<T>(
    task: &mut AbortOnDropHandle<Result<T, UpgradeError>>,
) -> Result<T, UpgradeError> {
    task.await
        .unwrap_or_else(|panic| Err(io::Error::other(panic).into()))
}

impl Wanted {
    /// It was done, or could be.
    pub(super) fn done(self, upgraded: Upgraded) {
        if upgraded.dry_run {
            tracing::info!(binary = %self.binary.display(), file = %upgraded.file.display(), "an upgrade would succeed");
        } else {
            let (pid, connections) = (upgraded.pid, upgraded.connections);
            let (binary, file) = (self.binary.display(), upgraded.file.display());
            tracing::info!(%binary, %file, pid, connections, "upgraded");
        }
        self.say(Ok(upgraded));
    }

    /// It could not be done.
    pub(super) fn failed(self, error: UpgradeError) {
        tracing::error!(%error, binary = %self.binary.display(), "there was no upgrade; this process goes on");
        self.say(Err(error));
    }

    fn say(self, answer: Result<Upgraded, UpgradeError>) {
        if let Some(waiting) = self.answer {
            // Whoever asked may have left.
            drop(waiting.send(answer));
        }
    }
}
