//! Report of a group about one of its upstreams.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use crate::cause::FailureCause;
use crate::group_config::UpstreamState;
use crate::health::UpstreamHealth;

/// Current state of one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStatus {
    /// Address of the upstream.
    pub address: SocketAddr,
    /// Health of the upstream.
    pub health: UpstreamHealth,
    /// Cause of its last failed probe, dial or relay; a probe that passes clears it.
    pub cause: Option<FailureCause>,
    /// State that the operator has set.
    pub state: UpstreamState,
    /// Number of its connections, dials in flight included.
    pub open: u32,
    /// Share of the upstream: twice the weight, twice the connections.
    pub weight: NonZeroU32,
    /// True if it is chosen only when no healthy primary upstream is left to try.
    pub backup: bool,
}

/// An upstream that gets no more connections and has lost its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VacatedUpstream {
    pub(super) upstream: SocketAddr,
    /// Reason why it gets none: `drain`, `maint` or `removed`.
    pub(super) state: &'static str,
}
