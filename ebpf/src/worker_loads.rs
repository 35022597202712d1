//! Loads of the workers, in memory that is shared with the kernel.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use ebpf_common::{MOST_WORKERS, slot};

use crate::role::Role;
use crate::sys::{LoadSlot, SharedLoads};

/// Loads of the workers of one process, shared with the kernel, which gives a connection to the
/// worker with the least load.
///
/// Workers are counted from 0, below [`MOST_WORKERS`].
#[derive(Debug)]
pub struct WorkerLoads {
    shared: SharedLoads,
    role: Role,
    /// True after the role was handed to another process, which counts in the same slots.
    left: AtomicBool,
}

impl WorkerLoads {
    /// Makes the loads of the process that has the role.
    pub(crate) fn new(shared: SharedLoads, role: Role) -> Self {
        Self {
            shared,
            role,
            left: AtomicBool::new(false),
        }
    }

    /// Sets the loads of all workers to 0.
    pub(crate) fn clear(&self) {
        for worker in 0..MOST_WORKERS {
            let load = self.slot(worker as usize);
            load.open.store(0, Relaxed);
            load.chosen.store(0, Relaxed);
        }
    }

    /// Stops counting: the role was handed to another process.
    pub(crate) fn hand_over(&self) {
        self.left.store(true, Relaxed);
    }

    /// Counts again: the other process has ended.
    pub(crate) fn take_back(&self) {
        self.left.store(false, Relaxed);
    }

    fn slot(&self, worker: usize) -> &LoadSlot {
        let first = slot(self.role.number(), 0) as usize;
        &self.shared.slots()[first + worker]
    }

    /// Adds a connection to a worker's load.
    pub fn increment(&self, worker: usize) {
        if !self.left.load(Relaxed) {
            self.slot(worker).open.fetch_add(1, Relaxed);
        }
    }

    /// Removes a connection from a worker's load; a load of 0 remains 0.
    pub fn decrement(&self, worker: usize) {
        if !self.left.load(Relaxed) {
            // A connection from before the count was reset is not counted.
            let less = |open: u64| open.checked_sub(1);
            self.slot(worker)
                .open
                .fetch_update(Relaxed, Relaxed, less)
                .ok();
        }
    }

    /// Sets to 0 the number of connections that are assigned to a worker and not accepted yet.
    pub fn reset_chosen(&self, worker: usize) {
        self.slot(worker).chosen.store(0, Relaxed);
    }

    /// The number of a worker's open connections.
    pub fn open(&self, worker: usize) -> u64 {
        self.slot(worker).open.load(Relaxed)
    }
}
