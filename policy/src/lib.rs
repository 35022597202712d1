//! The policy: the groups that each client may reach, how often, and with how many connections.
//!
//! This crate knows texts and values only: no socket, no clock, no file, no TLS and no eBPF. The same
//! text always leads to the same policy, and the same question to the same answer.
//!
//! A text is parsed once into a [`Policy`], which never changes afterwards. The difference of two
//! policies is a list of [`PolicyChange`]s. To apply it makes a new policy that shares everything
//! else with the old one; the cost grows with the change and not with the size of the policy.

#![forbid(unsafe_code)]

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};
use serde::{Serialize, Serializer};

mod ban;
mod change;
mod client;
mod client_name;
mod decide;
mod destination;
mod diff;
mod duration;
mod explain;
mod fields;
mod format;
mod freebind;
mod gateway;
mod generate;
mod group;
mod ip_prefix;
mod name;
mod parse;
mod problem;
mod protocols;
mod size;
mod steer;
#[cfg(test)]
mod tests;
mod workers;
mod yaml;
mod yaml_chunks;

pub use ban::BanPolicy;
pub use change::PolicyChange;
pub use client::{ClientPolicy, RatePolicy, WhenFull};
pub use client_name::{ClientName, ClientNameError};
pub use decide::{DecidingRule, Decision, DenyReason};
pub use destination::Destination;
pub use diff::{PolicyDifference, difference};
pub use explain::{Explanation, explain};
pub use format::schema::schema;
pub use freebind::Freebind;
pub use gateway::{
    ExpiredCrl, GatewayLimits, GatewayPolicy, GatewayTimeouts, OnRevoke, TlsFile, TlsFiles,
    TlsPositions,
};
pub use generate::generate;
pub use group::{
    CheckPolicy, GroupPolicy, GroupTimeouts, HealthPolicy, OnDown, ProxyProtocol, UpstreamPolicy,
    UpstreamState, WhenAllDown,
};
pub use ip_prefix::{IpPrefix, IpPrefixError};
pub use name::{SniName, SniNameError};
pub use parse::LARGEST_FILE;
pub use problem::{PolicyError, Problem};
pub use size::MemoryLimit;
pub use steer::{SteerMode, SteerPolicy};
pub use workers::{MOST_STEERED_WORKERS, WorkerAffinity, WorkerPolicy};

/// One generation of the policy: the gateway's settings, groups and clients; immutable and cheap to
/// clone.
///
/// Two policies are equal if all their settings are equal, whatever files and lines they came from.
#[derive(Clone)]
pub struct Policy {
    file: Arc<str>,
    gateway: Arc<GatewayPolicy>,
    groups: HashMap<Arc<str>, Arc<GroupPolicy>>,
    clients: HashMap<Arc<str>, Arc<ClientPolicy>>,
    index: decide::GroupIndex,
    /// The different lists of application protocols (ALPN) of the groups, each with the number of
    /// groups that have it.
    protocols: OrdMap<Arc<[Vec<u8>]>, usize>,
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

/// Upper bound of a number, for example of open connections; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Without a bound.
    Unlimited,
    /// At most this number.
    AtMost(NonZeroU32),
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::AtMost(most) => most.fmt(f),
        }
    }
}

/// Serializes as in the policy: a number, or the word `unlimited`.
impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::AtMost(most) => most.serialize(serializer),
        }
    }
}

/// Line number in a policy's file, counted from 1.
///
/// All values are equal: a line that has moved is not a change of the policy. An item that did not
/// change therefore keeps the line that it had when it was first read.
#[derive(Debug, Clone, Copy)]
pub struct SourceLine(u32);

impl SourceLine {
    fn of(at: problem::TextPosition) -> Self {
        Self(at.line)
    }

    /// Returns the number of the line.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl PartialEq for SourceLine {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceLine {}
