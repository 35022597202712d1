//! Configuration of a load balancer, and the changes of a running one.

use std::net::SocketAddr;

use crate::config_error::ConfigError;
use crate::group_config::{GroupConfig, UpstreamConfig};
use crate::limit::{ClientLimits, Limit, SharedName};

/// Configuration of a [`LoadBalancer`](crate::LoadBalancer).
///
/// ```
/// use std::num::NonZeroU32;
///
/// use lb::{ClientLimits, GroupConfig, Limit, LoadBalancer, LoadBalancerConfig, UpstreamConfig};
///
/// # fn main() -> Result<(), lb::ConfigError> {
/// let at_most = |n| NonZeroU32::new(n).map_or(Limit::Unlimited, Limit::from);
/// let upstream = UpstreamConfig::new(([10, 0, 0, 1], 5432).into());
/// let balancer = LoadBalancer::new(LoadBalancerConfig {
///     connections: at_most(10_000),
///     client: ClientLimits { connections: at_most(20), ..ClientLimits::default() },
///     groups: vec![GroupConfig::new("ledger", vec![upstream])],
/// })?;
/// assert!(balancer.group("ledger").is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct LoadBalancerConfig {
    /// Limit of all connections together.
    pub connections: Limit,
    /// Limits of each client of [`LoadBalancer::handle`](crate::LoadBalancer::handle).
    pub client: ClientLimits,
    /// Groups of upstreams.
    pub groups: Vec<GroupConfig>,
}

/// One change of a running load balancer.
///
/// ```
/// use lb::{BalancerChange, GroupConfig, LoadBalancer, UpstreamConfig};
///
/// # fn main() -> Result<(), lb::ConfigError> {
/// let balancer = LoadBalancer::default();
/// balancer.apply([BalancerChange::PutGroup(GroupConfig::new("ledger", Vec::new()))])?;
/// // What a program does that discovers upstreams one by one.
/// let upstream = UpstreamConfig::new(([10, 0, 0, 1], 5432).into());
/// balancer.apply([BalancerChange::PutUpstream { group: "ledger".into(), upstream }])?;
/// let group = balancer.group("ledger").expect("it was added");
/// assert_eq!(group.upstreams().len(), 1);
/// let (group, upstream) = ("ledger".into(), upstream.address);
/// balancer.apply([BalancerChange::RemoveUpstream { group, upstream }])?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "most changes are of groups, and none is kept"
)]
pub enum BalancerChange {
    /// Adds a group, or alters the one of that [name](GroupConfig::name).
    PutGroup(GroupConfig),
    /// Removes a group; its open connections go on.
    RemoveGroup(SharedName),
    /// Adds an upstream to a group, or alters the one of that address. A source of upstreams need
    /// not know the others of the group, and removes none that another source adds meanwhile.
    PutUpstream {
        /// Name of the group.
        group: SharedName,
        /// Configuration of the upstream.
        upstream: UpstreamConfig,
    },
    /// Removes an upstream from a group, if it is there; its open connections go on.
    RemoveUpstream {
        /// Name of the group.
        group: SharedName,
        /// Address of the upstream.
        upstream: SocketAddr,
    },
    /// Replaces the limit of all connections together.
    Connections(Limit),
    /// Replaces the limits of each client of [`LoadBalancer::handle`](crate::LoadBalancer::handle).
    Client(ClientLimits),
}

impl BalancerChange {
    /// Checks the configuration that the change brings.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::PutGroup(config) => config.check(),
            Self::RemoveGroup(_)
            | Self::PutUpstream { .. }
            | Self::RemoveUpstream { .. }
            | Self::Connections(_)
            | Self::Client(_) => Ok(()),
        }
    }
}
