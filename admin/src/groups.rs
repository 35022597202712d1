//! The answers to `GET /groups` and `GET /upstreams`.

use serde::{Deserialize, Serialize};

/// The groups of the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct GroupsReport {
    /// Generation of the policy in force.
    pub generation: u64,
    /// The groups, by name.
    pub groups: Vec<GroupReport>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct GroupReport {
    /// Name of the group.
    pub name: String,
    /// Server names (SNI) that lead to it.
    pub sni: Vec<String>,
    /// Ports that lead to it for clients without SNI.
    pub ports: Vec<u16>,
    /// Number of its connections.
    pub connections: u32,
    /// Largest number of its connections; `null` if there is no limit.
    pub max_connections: Option<u32>,
    /// Number of its upstreams.
    pub upstreams: usize,
    /// Number of its upstreams that get new connections: ready, and up.
    pub available: usize,
}

/// The upstreams of all groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UpstreamsReport {
    /// Generation of the policy in force.
    pub generation: u64,
    /// The upstreams, by group, in the order of the policy.
    pub upstreams: Vec<UpstreamReport>,
}

/// An upstream of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UpstreamReport {
    /// Name of its group.
    pub group: String,
    /// Address of the upstream.
    pub address: String,
    /// Health: `up`, `down`, or `unknown`.
    pub health: String,
    /// Cause of its last failed probe, dial or relay; `null` if there was none since a
    /// probe passed.
    pub cause: Option<String>,
    /// State by the policy: `ready`, `drain`, or `maint`.
    pub state: String,
    /// Share of the upstream: twice the weight, twice the connections.
    pub weight: u32,
    /// True if it is used only when no other upstream of the group is left.
    pub backup: bool,
    /// Number of its connections, dials in flight included.
    pub connections: u32,
}
