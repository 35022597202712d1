//! Log events of a group about its upstreams, with fixed texts.

use std::net::SocketAddr;

use parking_lot::MutexGuard;
use tracing::{info, warn};

use super::{UpstreamGroup, state::GroupState};
use crate::{cause::FailureCause, health::UpstreamHealth};

/// Most upstreams without connections that one change logs.
const VACATED_NAMED: usize = 20;

/// An upstream that gets no more connections and has lost its last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct VacatedUpstream {
    pub(super) upstream: SocketAddr,
    /// Reason why it gets none: `drain`, `maint` or `removed`.
    pub(super) state: &'static str,
}

impl UpstreamGroup {
    /// Logs that an upstream went up or down, if it did, after the lock was released.
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

    /// Logs the upstreams that may be shut down now: the group has no connection on them any more.
    pub(super) fn report_vacated(&self, vacated: impl IntoIterator<Item = VacatedUpstream>) {
        let group = &*self.name;
        for VacatedUpstream { upstream, state } in vacated.into_iter().take(VACATED_NAMED) {
            info!(group, %upstream, state, "upstream has no connection left");
        }
    }
}
