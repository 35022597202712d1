//! Reasons why no upstream is leased.

use thiserror::Error;

use crate::limit::Limit;

/// Error of [`UpstreamGroup::lease`](crate::UpstreamGroup::lease): no upstream was leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoLease {
    /// The group has as many connections as
    /// [`GroupConfig::max_connections`](crate::GroupConfig::max_connections) allows.
    #[error("the group's limit of {limit} connections is reached")]
    GroupFull {
        /// Limit of connections of the group.
        limit: Limit,
    },
    /// No upstream of the group takes connections.
    #[error("no upstream of the group is healthy")]
    NoneHealthy,
    /// Every upstream that takes connections was tried already.
    #[error("every healthy upstream of the group was tried")]
    AllTried,
}
