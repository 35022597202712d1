//! One connection's claim on one upstream.

use std::{net::SocketAddr, sync::Arc};

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{cause::FailureCause, group::UpstreamGroup, limit::Limit};

/// One connection's claim on one upstream.
///
/// The claim counts from [`UpstreamGroup::lease`] until the lease is dropped, however the connection ends:
/// return, error, panic, or cancellation. There is no `release` to forget or call twice.
#[derive(Debug)]
#[must_use = "dropping a lease returns it"]
pub struct Lease {
    group: Arc<UpstreamGroup>,
    address: SocketAddr,
    /// Cancelled when the upstream goes down, if its connections end then.
    down: Option<CancellationToken>,
}

impl Lease {
    /// Only the group that just counted the claim makes its lease.
    pub(crate) fn counted(
        group: Arc<UpstreamGroup>,
        address: SocketAddr,
        down: Option<CancellationToken>,
    ) -> Self {
        Self {
            group,
            address,
            down,
        }
    }

    pub(crate) fn down(&self) -> Option<&CancellationToken> {
        self.down.as_ref()
    }

    /// The upstream said something, or has kept the connection for a while.
    pub(crate) fn served(&self) {
        self.group.dialed(self.address, Ok(()));
    }

    /// The upstream ended the connection at once and without a byte.
    pub(crate) fn fell_short(&self, cause: FailureCause) {
        self.group.fell_short(self.address, cause);
    }

    /// The upstream broke off, or took nothing for too long.
    pub(crate) fn broke(&self, cause: FailureCause) {
        self.group.relayed(self.address, Err(cause));
    }

    /// The upstream ended the connection in order.
    pub(crate) fn finished(&self) {
        self.group.relayed(self.address, Ok(()));
    }

    /// The upstream's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The group that the upstream was chosen from.
    pub fn group(&self) -> &Arc<UpstreamGroup> {
        &self.group
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.group.give_back(self.address);
    }
}

/// Why no upstream was leased.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoLease {
    /// The group has as many connections as it may.
    #[error("the group has all of its {limit} connections open")]
    GroupFull {
        /// How many it may have.
        limit: Limit,
    },
    /// No upstream takes connections.
    #[error("no upstream of the group is healthy")]
    NoneHealthy,
    /// Every upstream that takes connections was tried already.
    #[error("every healthy upstream of the group was tried")]
    AllTried,
}
