//! Changes of a group's configuration under live connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::state::GroupState;
use super::status::VacatedUpstream;
use super::{UpstreamGroup, report};
use crate::group_config::{GroupConfig, UpstreamConfig};

/// Number of upstreams that are changed before waiting leases get the lock.
const STRETCH: usize = 64;

/// Difference between two configurations of a group.
struct GroupDifference {
    put: Vec<UpstreamConfig>,
    removed: Vec<SocketAddr>,
}

impl GroupDifference {
    fn new(before: &[UpstreamConfig], after: &[UpstreamConfig]) -> Self {
        // Of two with one address, the last one counts.
        let by_address = |upstreams: &[UpstreamConfig]| -> HashMap<SocketAddr, UpstreamConfig> {
            upstreams.iter().map(|one| (one.address, *one)).collect()
        };
        let (had, wanted) = (by_address(before), by_address(after));
        let new = |one: &&UpstreamConfig| {
            wanted[&one.address] == **one && had.get(&one.address) != Some(*one)
        };
        let gone = |one: &&UpstreamConfig| !wanted.contains_key(&one.address);
        let mut removed: Vec<_> = before.iter().filter(gone).map(|one| one.address).collect();
        removed.sort_unstable();
        removed.dedup();
        Self {
            put: after.iter().filter(new).copied().collect(),
            removed,
        }
    }
}

impl UpstreamGroup {
    /// Changes the configuration by difference, upstream by upstream: a lease waits for [`STRETCH`]
    /// of them at most, and what is added is there before anything is removed. One thread changes a
    /// group at a time.
    ///
    /// Changed health settings stop the probes; [`UpstreamGroup::probe`] starts them with the new
    /// settings.
    pub(crate) fn alter(&self, config: GroupConfig) {
        let before = self.config.load_full();
        let unchanged = *before == config;
        let difference = GroupDifference::new(&before.upstreams, &config.upstreams);
        let all_anew = before.health != config.health;
        let mut book = self.state.lock();
        book.retired = false;
        if unchanged {
            return;
        }
        book.configure(&config);
        let mut vacated = Vec::new();
        for stretch in difference.put.chunks(STRETCH) {
            vacated.extend(stretch.iter().filter_map(|one| book.put(*one)));
            MutexGuard::bump(&mut book);
        }
        for stretch in difference.removed.chunks(STRETCH) {
            vacated.extend(stretch.iter().filter_map(|one| book.remove(*one)));
            MutexGuard::bump(&mut book);
        }
        self.altered(book, config, vacated);
        if all_anew {
            self.probes.stop_all();
        }
    }

    /// Adds one upstream or alters it, at a cost that hardly grows with the number of the others.
    pub(crate) fn put_upstream(&self, upstream: UpstreamConfig) {
        let mut config = GroupConfig::clone(&self.config.load());
        let mut known = config.upstreams.iter_mut();
        match known.rfind(|known| known.address == upstream.address) {
            Some(known) => *known = upstream,
            None => config.upstreams.push(upstream),
        }
        let mut book = self.state.lock();
        let vacated = book.put(upstream);
        self.altered(book, config, vacated);
    }

    /// Removes one upstream, if the group has it.
    pub(crate) fn remove_upstream(&self, upstream: SocketAddr) {
        let mut config = GroupConfig::clone(&self.config.load());
        config.upstreams.retain(|known| known.address != upstream);
        let mut book = self.state.lock();
        let vacated = book.remove(upstream);
        self.altered(book, config, vacated);
    }

    fn altered(
        &self,
        mut book: MutexGuard<'_, GroupState>,
        config: GroupConfig,
        vacated: impl IntoIterator<Item = VacatedUpstream>,
    ) {
        book.await_verdict();
        self.config.store(Arc::new(config));
        self.first_verdict.settle(&book);
        drop(book);
        report::vacated(&self.name, vacated);
    }
}
