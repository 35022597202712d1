//! Probe tasks of a group, one for each upstream that is probed.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// Probe tasks of a group by upstream. A task that is taken out, or left when this is dropped, is
/// aborted.
#[derive(Debug, Default)]
pub(crate) struct ProbeTasks(Mutex<BTreeMap<SocketAddr, AbortHandle>>);

impl ProbeTasks {
    /// Keeps the tasks of the `wanted` upstreams, spawns those that are missing, and aborts all
    /// others.
    pub(crate) fn keep(
        &self,
        wanted: impl IntoIterator<Item = SocketAddr>,
        spawn: impl Fn(SocketAddr) -> AbortHandle,
    ) {
        let mut running = self.0.lock();
        let mut kept = BTreeMap::new();
        for address in wanted {
            let started = running.remove(&address);
            kept.entry(address)
                .or_insert_with(|| started.unwrap_or_else(|| spawn(address)));
        }
        for unwanted in mem::replace(&mut *running, kept).into_values() {
            unwanted.abort();
        }
    }

    /// Spawns the task of one upstream unless it is there.
    pub(crate) fn keep_one(&self, upstream: SocketAddr, spawn: impl FnOnce() -> AbortHandle) {
        self.0.lock().entry(upstream).or_insert_with(spawn);
    }

    /// Aborts the task of one upstream, if there is one.
    pub(crate) fn stop_one(&self, upstream: SocketAddr) {
        if let Some(unwanted) = self.0.lock().remove(&upstream) {
            unwanted.abort();
        }
    }

    /// Aborts every task.
    pub(crate) fn stop_all(&self) {
        for probe in mem::take(&mut *self.0.lock()).into_values() {
            probe.abort();
        }
    }

    /// Returns the ids of the tasks, in the order of the upstreams.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> Vec<tokio::task::Id> {
        self.0.lock().values().map(AbortHandle::id).collect()
    }
}

impl Drop for ProbeTasks {
    fn drop(&mut self) {
        self.stop_all();
    }
}
