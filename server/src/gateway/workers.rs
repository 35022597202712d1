//! The threads of a gateway that serves.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How often the workers are looked at when they are to end.
const LOOK: Duration = Duration::from_millis(5);

/// Whose the connections are that wait at the listeners when no more are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuedConnections {
    /// This process's: they are accepted, and drained as all others.
    Ours,
    /// Those of the process that has the same listeners.
    Theirs,
}

/// The workers of a gateway that serves.
#[derive(Debug)]
pub struct WorkerThreads {
    threads: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    pub(super) fn new(threads: Vec<JoinHandle<()>>) -> Self {
        Self { threads }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Waits for the workers' end, which comes when the gateway's drain is over. One that hangs is left
    /// behind after `limit`.
    pub async fn ended(mut self, limit: Duration) {
        let ended = async {
            while !self.threads.is_empty() {
                let ended = self.threads.extract_if(.., |thread| thread.is_finished());
                ended.for_each(join);
                sleep(LOOK).await;
            }
        };
        if timeout(limit, ended).await.is_err() {
            tracing::error!("workers are not responding; the process ends without them");
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a worker panicked");
    }
}
