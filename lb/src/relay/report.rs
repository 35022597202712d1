//! Reports of a relay about its upstream, which count for the upstream's health.

use std::io;

use peer::Downstream;

use super::clock::RelayClock;
use super::course::RelayCourse;
use crate::cause::{FailureCause, is_ours};
use crate::ends::StreamState;

impl<D: Downstream> RelayCourse<'_, D> {
    /// Reports to the group that the upstream serves.
    pub(super) fn upstream_serves(&self, clock: &mut RelayClock) {
        clock.proved();
        if let Some(lease) = self.lease {
            lease.served();
        }
    }

    /// Reports to the group that the upstream's stream ended, if that says something about its
    /// health.
    pub(super) fn observe_end(&mut self, ended: &io::Result<()>, clock: &mut RelayClock) {
        let Some(lease) = self.lease else {
            return;
        };
        if ended.as_ref().is_err_and(is_ours) || self.client.stream != StreamState::Open {
            return;
        }
        if clock.awaits_proof() && self.traffic.sent() == 0 {
            clock.proved();
            lease.fell_short(
                ended
                    .as_ref()
                    .err()
                    .map_or(FailureCause::Closed, FailureCause::of),
            );
            // Nothing else is reported, also if the relay ends in order now.
            self.lease = None;
        } else if let (Err(error), false) = (ended, self.upstream.gone) {
            lease.broke(FailureCause::of(error));
        }
    }

    /// Reports to the group that the upstream takes no more, if that says something about its
    /// health.
    pub(super) fn observe_loss(&self, error: &io::Error) {
        let is_its_own = self.upstream.stream == StreamState::Open
            && self.client.stream == StreamState::Open
            && !is_ours(error);
        if let (true, Some(lease)) = (is_its_own, self.lease) {
            lease.broke(FailureCause::of(error));
        }
    }
}
