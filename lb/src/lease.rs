//! One connection's claim on one upstream.

use std::{net::SocketAddr, sync::Arc};

use thiserror::Error;

use crate::{group::Group, limit::Limit};

/// One connection's claim on one upstream.
///
/// The claim counts from [`Group::lease`] until the lease is dropped, however the connection ends:
/// return, error, panic, or cancellation. There is no `release` to forget or call twice.
#[derive(Debug)]
#[must_use = "dropping a lease returns it"]
pub struct Lease {
    group: Arc<Group>,
    address: SocketAddr,
}

impl Lease {
    /// Only the group that just counted the claim makes its lease.
    pub(crate) fn counted(group: Arc<Group>, address: SocketAddr) -> Self {
        Self { group, address }
    }

    /// The upstream's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The group that the upstream was chosen from.
    pub fn group(&self) -> &Arc<Group> {
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
