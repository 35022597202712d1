//! The policy itself: the gateway's settings, the groups and the clients.

use std::fmt;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use crate::client::ClientPolicy;
use crate::gateway::GatewayPolicy;
use crate::group::GroupPolicy;
use crate::group_index::GroupIndex;
use crate::positions::PolicyPositions;
use crate::problem::Problem;

/// One generation of the policy: the gateway's settings, groups and clients; immutable and cheap to
/// clone.
///
/// Two policies are equal if all their settings are equal, whatever files and lines they came from.
#[derive(Clone)]
pub struct Policy {
    pub(crate) file: Arc<str>,
    pub(crate) gateway: Arc<GatewayPolicy>,
    pub(crate) groups: HashMap<Arc<str>, Arc<GroupPolicy>>,
    pub(crate) clients: HashMap<Arc<str>, Arc<ClientPolicy>>,
    pub(crate) index: GroupIndex,
    /// The different lists of application protocols (ALPN) of the groups, each with the number of
    /// groups that have it.
    pub(crate) protocols: OrdMap<Arc<[Vec<u8>]>, usize>,
    pub(crate) positions: PolicyPositions,
    /// Warnings about the policy itself.
    pub(crate) warnings: Arc<[Problem]>,
}

impl Policy {
    /// Returns the settings of the gateway as a whole.
    pub fn gateway(&self) -> &Arc<GatewayPolicy> {
        &self.gateway
    }

    /// Returns the group with this name.
    pub fn group(&self, name: &str) -> Option<&Arc<GroupPolicy>> {
        self.groups.get(name)
    }

    /// Iterates over all groups, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<GroupPolicy>> {
        self.groups.values()
    }

    /// Iterates over the destination ports by which clients without SNI reach a group, in no
    /// particular order.
    pub fn group_ports(&self) -> impl Iterator<Item = u16> {
        self.index.ports()
    }

    /// Returns the client with this name.
    pub fn client(&self, name: &str) -> Option<&Arc<ClientPolicy>> {
        self.clients.get(name)
    }

    /// Iterates over all clients, in no particular order.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<ClientPolicy>> {
        self.clients.values()
    }

    /// Returns the name of the file that the policy was parsed from, as given to [`Policy::parse`].
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            file: _,
            positions: _,
            warnings: _,
            gateway,
            groups,
            clients,
            index,
            protocols,
        } = self;
        *gateway == other.gateway
            && *groups == other.groups
            && *clients == other.clients
            && *index == other.index
            && *protocols == other.protocols
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("file", &self.file)
            .field("groups", &self.groups.len())
            .field("clients", &self.clients.len())
            .finish_non_exhaustive()
    }
}
