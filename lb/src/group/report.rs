//! Log events of a group about its upstreams, with fixed texts.

use std::net::SocketAddr;

use tracing::{error, info, warn};

use super::status::VacatedUpstream;
use crate::cause::FailureCause;
use crate::health::UpstreamHealth;

/// Most upstreams without connections that one change logs.
const VACATED_NAMED: usize = 20;

/// Number of healthy upstreams of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupHealth {
    /// Upstreams that are up and ready.
    pub(super) healthy: usize,
    /// Those, and the ones that are down.
    pub(super) upstreams: usize,
    /// True if no upstream is healthy, and none has yet to be decided about.
    pub(super) is_without: bool,
}

/// Logs that an upstream went up or down, and what that leaves its group with.
pub(super) fn moved(
    group: &str,
    upstream: SocketAddr,
    (from, to): (UpstreamHealth, UpstreamHealth),
    cause: Option<&FailureCause>,
    left: GroupHealth,
) {
    let GroupHealth {
        healthy,
        upstreams,
        is_without,
    } = left;
    match to {
        UpstreamHealth::Up => info!(group, %upstream, healthy, upstreams, "upstream is up"),
        UpstreamHealth::Down => {
            let cause = cause.map(FailureCause::to_string).unwrap_or_default();
            warn!(group, %upstream, %from, cause, healthy, upstreams, "upstream is down");
            if is_without {
                error!(group, upstreams, cause, "group has no healthy upstream");
            }
        }
        UpstreamHealth::Unknown => {}
    }
}

/// Logs the upstreams that may be shut down now: the group has no connection on them any more.
pub(super) fn vacated(group: &str, vacated: impl IntoIterator<Item = VacatedUpstream>) {
    for VacatedUpstream { upstream, state } in vacated.into_iter().take(VACATED_NAMED) {
        info!(group, %upstream, state, "upstream has no connection left");
    }
}
