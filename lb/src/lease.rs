//! Claim of one connection on one upstream.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::cause::FailureCause;
use crate::group::UpstreamGroup;
use crate::no_lease::NoLease;

/// Claim of one connection on one upstream.
///
/// The claim counts from [`UpstreamGroup::lease`] until the lease is dropped, however the
/// connection ends: return, error, panic, or cancellation. There is no `release` to forget or call
/// twice.
#[derive(Debug)]
#[must_use = "dropping a lease returns it"]
pub struct Lease {
    group: Arc<UpstreamGroup>,
    address: SocketAddr,
    /// Token that is cancelled when the upstream goes down, if its connections end then.
    down: Option<CancellationToken>,
}

impl UpstreamGroup {
    /// Leases the upstream with the fewest connections over its weight among the healthy ones that
    /// are not in `tried`; upstreams with equal load are chosen in turn.
    ///
    /// # Errors
    ///
    /// The group is full, or has no further upstream that takes connections.
    pub fn lease(self: &Arc<Self>, tried: &[SocketAddr]) -> Result<Lease, NoLease> {
        let (address, down) = self.choose(tried)?;
        Ok(Lease {
            group: Arc::clone(self),
            address,
            down,
        })
    }

    /// Counts a connection of another process to an upstream, regardless of limits and of whether
    /// the upstream is configured here.
    pub fn adopt(self: &Arc<Self>, upstream: SocketAddr) -> Lease {
        self.count_adopted(upstream);
        Lease {
            group: Arc::clone(self),
            address: upstream,
            down: None,
        }
    }
}

impl Lease {
    pub(crate) fn down(&self) -> Option<&CancellationToken> {
        self.down.as_ref()
    }

    /// Reports that the upstream sent something, or has kept the connection for a while.
    pub(crate) fn served(&self) {
        self.group.dialed(self.address, Ok(()));
    }

    /// Reports that the upstream ended the connection at once and without a byte.
    pub(crate) fn fell_short(&self, cause: FailureCause) {
        self.group.fell_short(self.address, cause);
    }

    /// Reports that the upstream broke off, or did not read for too long.
    pub(crate) fn broke(&self, cause: FailureCause) {
        self.group.relayed(self.address, Err(cause));
    }

    /// Reports that the upstream ended the connection in order.
    pub(crate) fn finished(&self) {
        self.group.relayed(self.address, Ok(()));
    }

    /// Returns the upstream's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the group that the upstream was chosen from.
    pub fn group(&self) -> &Arc<UpstreamGroup> {
        &self.group
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.group.give_back(self.address);
    }
}
