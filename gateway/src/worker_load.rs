//! Load of a worker, as the kernel sees it.

use std::sync::Arc;

use ebpf::WorkerLoads;

/// One connection in the [`WorkerLoads`], which is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct WorkerLoadGuard {
    loads: Arc<WorkerLoads>,
    worker: usize,
}

impl WorkerLoadGuard {
    /// Counts one more connection of a worker.
    pub(crate) fn new(loads: &Arc<WorkerLoads>, worker: usize) -> Self {
        loads.increment(worker);
        Self {
            loads: Arc::clone(loads),
            worker,
        }
    }
}

impl Drop for WorkerLoadGuard {
    fn drop(&mut self) {
        self.loads.decrement(self.worker);
    }
}
