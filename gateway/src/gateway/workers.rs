//! The worker threads of a gateway that serves.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Interval at which the workers are checked when they are to end.
const LOOK: Duration = Duration::from_millis(5);

/// The worker threads of a gateway that serves.
#[derive(Debug)]
pub struct WorkerThreads {
    threads: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    pub(super) fn new(threads: Vec<JoinHandle<()>>) -> Self {
        Self { threads }
    }

    /// Returns the number of workers.
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Waits until all workers have ended, which they do when the gateway's drain is over. After
    /// `limit` those that do not respond are left behind, which is logged.
    pub async fn ended(mut self, limit: Duration) {
        let ended = async {
            while !self.threads.is_empty() {
                let ended = self.threads.extract_if(.., |thread| thread.is_finished());
                ended.for_each(join);
                sleep(LOOK).await;
            }
        };
        if timeout(limit, ended).await.is_err() {
            tracing::error!("workers do not stop; the process ends without them");
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a worker panicked");
    }
}
