//! What a group says about its upstreams: log events of fixed words.

use std::net::SocketAddr;

use parking_lot::MutexGuard;
use tracing::{info, warn};

use super::{UpstreamGroup, state::GroupState};
use crate::{cause::FailureCause, health::UpstreamHealth};

/// How many upstreams without connections one change names, at most.
const VACATED_NAMED: usize = 20;

/// An upstream that gets no connections any more and has lost its last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct VacatedUpstream {
    pub(super) upstream: SocketAddr,
    /// Why it gets none.
    pub(super) state: &'static str,
}

impl UpstreamGroup {
    /// Says that an upstream came up or went down, if it did, after the lock was let go.
    pub(super) fn report(
        &self,
        book: MutexGuard<'_, GroupState>,
        upstream: SocketAddr,
        moved: Option<(UpstreamHealth, UpstreamHealth)>,
    ) {
        let Some((from, to)) = moved else {
            return;
        };
        self.settle(&book);
        let cause = book.cause(upstream).cloned();
        drop(book);
        let group = &*self.name;
        match to {
            UpstreamHealth::Up => info!(group, %upstream, "upstream is up"),
            UpstreamHealth::Down => {
                let cause = cause
                    .as_ref()
                    .map(FailureCause::to_string)
                    .unwrap_or_default();
                warn!(group, %upstream, %from, cause, "upstream is down");
            }
            UpstreamHealth::Unknown => {}
        }
    }

    /// Says which upstreams may be taken away now: no connection of the group is on them any more.
    pub(super) fn report_vacated(&self, vacated: impl IntoIterator<Item = VacatedUpstream>) {
        let group = &*self.name;
        for VacatedUpstream { upstream, state } in vacated.into_iter().take(VACATED_NAMED) {
            info!(group, %upstream, state, "upstream has lost its last connection");
        }
    }
}
