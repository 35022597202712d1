//! The policy: who may reach what, how often and how fast.
//!
//! A text is parsed once into a [`Policy`], which is valid for ever and never changes. Two policies
//! become a list of [`PolicyChange`]s, and applying a change makes a new policy that shares all else with
//! the old one, at a cost that grows with the change and not with the policy.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};
use serde::{Serialize, Serializer};

mod ban;
mod change;
mod client;
mod decide;
mod diff;
mod duration;
mod explain;
mod fields;
mod format;
mod freebind;
mod gateway;
mod generate;
mod group;
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
pub use decide::{DecidingRule, Decision, DenyReason};
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
pub use name::{SniName, SniNameError};
pub use problem::{PolicyError, Problem};
pub use size::MemoryLimit;
pub use steer::{SteerMode, SteerPolicy};
pub use workers::{WorkerAffinity, WorkerPolicy};

/// Who may reach what: one generation, immutable and cheap to clone.
///
/// Two are equal if they decide alike, whatever file and lines they came from.
#[derive(Clone)]
pub struct Policy {
    file: Arc<str>,
    gateway: Arc<GatewayPolicy>,
    groups: HashMap<Arc<str>, Arc<GroupPolicy>>,
    clients: HashMap<Arc<str>, Arc<ClientPolicy>>,
    index: decide::GroupIndex,
    /// The different lists of application protocols that groups have, and how many groups have each.
    protocols: OrdMap<Arc<[Vec<u8>]>, usize>,
}

impl Policy {
    /// What holds for the whole gateway.
    pub fn gateway(&self) -> &Arc<GatewayPolicy> {
        &self.gateway
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&Arc<GroupPolicy>> {
        self.groups.get(name)
    }

    /// All groups, in no order.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<GroupPolicy>> {
        self.groups.values()
    }

    /// The client of this name.
    pub fn client(&self, name: &str) -> Option<&Arc<ClientPolicy>> {
        self.clients.get(name)
    }

    /// All clients, in no order.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<ClientPolicy>> {
        self.clients.values()
    }

    /// The name of the file that it came from.
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

/// How much of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// As much as comes.
    Unlimited,
    /// This much.
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

/// As in the policy: a number, or the word `unlimited`.
impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::AtMost(most) => most.serialize(serializer),
        }
    }
}

/// A line of a policy's file, from 1.
///
/// All are equal: that a line moved is no change of the policy. So what did not change keeps the
/// line that it had when it was first read.
#[derive(Debug, Clone, Copy)]
pub struct SourceLine(u32);

impl SourceLine {
    fn of(at: problem::TextPosition) -> Self {
        Self(at.line)
    }

    /// The number.
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
