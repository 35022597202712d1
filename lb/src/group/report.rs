//! Log events of a group about its upstreams, with fixed texts.

use std::net::SocketAddr;

use tracing::{info, warn};

use super::status::VacatedUpstream;
use crate::cause::FailureCause;
use crate::health::UpstreamHealth;

/// Most upstreams without connections that one change logs.
const VACATED_NAMED: usize = 20;

/// Logs that an upstream went up or down.
pub(super) fn moved(
    group: &str,
    upstream: SocketAddr,
    (from, to): (UpstreamHealth, UpstreamHealth),
    cause: Option<&FailureCause>,
) {
    match to {
        UpstreamHealth::Up => info!(group, %upstream, "upstream is up"),
        UpstreamHealth::Down => {
            let cause = cause.map(FailureCause::to_string).unwrap_or_default();
            warn!(group, %upstream, %from, cause, "upstream is down");
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
