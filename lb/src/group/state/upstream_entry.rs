//! Entry of one upstream in the state of its group.

use tokio_util::sync::CancellationToken;

use crate::balancer::Tier;
use crate::cause::FailureCause;
use crate::group_config::{UpstreamConfig, UpstreamState};
use crate::health::{HealthState, UpstreamHealth};

/// One upstream of a group.
#[derive(Debug)]
pub(super) struct UpstreamEntry {
    pub(super) config: UpstreamConfig,
    pub(super) health: HealthState,
    pub(super) cause: Option<FailureCause>,
    /// Token that is cancelled when it goes down, if there are connections that end then.
    pub(super) down: Option<CancellationToken>,
    /// True if it went down by what a client may have caused, and no probe or dial has confirmed
    /// it.
    pub(super) is_suspected: bool,
}

impl UpstreamEntry {
    pub(super) fn tier(&self) -> Tier {
        match (self.config.state, self.health.health()) {
            (UpstreamState::Drain | UpstreamState::Maint, _) => Tier::Out,
            (UpstreamState::Ready, UpstreamHealth::Unknown) => Tier::Out,
            (UpstreamState::Ready, UpstreamHealth::Down) => Tier::Down,
            (UpstreamState::Ready, UpstreamHealth::Up) if self.config.backup => Tier::Backup,
            (UpstreamState::Ready, UpstreamHealth::Up) => Tier::Primary,
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.config.state == UpstreamState::Ready && self.health.health() == UpstreamHealth::Unknown
    }
}
