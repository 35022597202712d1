//! The policy: the groups that each client may reach, how often, and with how many connections.
//!
//! This crate knows texts and values only: no socket, no clock, no file, no TLS and no eBPF. The
//! same text always leads to the same policy, and the same question to the same answer.
//!
//! A text is parsed once into a [`Policy`], which never changes afterwards. The difference of two
//! policies is a list of [`PolicyChange`]s. To apply it makes a new policy that shares everything
//! else with the old one; the cost grows with the change and not with the size of the policy.
//!
//! ```
//! use policy::{ClientName, Decision, Policy};
//!
//! let text = r#"
//! version: 1
//! gateway:
//!   listen: ["[::]:8443"]
//!   tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
//! groups:
//!   ledger.example.test: {upstreams: ["10.0.0.11:5432"]}
//! clients:
//!   billing: {groups: [ledger.example.test], max_connections: 10}
//! "#;
//! let policy = Policy::parse("policy.yaml", text)?;
//!
//! let billing = ClientName::new("billing")?;
//! let decision = policy.decide(&billing, Some("ledger.example.test"), 8443);
//! assert!(matches!(decision, Decision::Allow { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod access_log;
mod ban;
mod change;
mod client;
mod client_name;
mod decide;
mod destination;
mod diff;
mod duration;
mod edit;
mod expected_decision;
mod explain;
mod fields;
mod format;
mod freebind;
mod gateway;
mod generate;
mod group;
mod group_index;
mod health;
mod ip_prefix;
mod name;
mod parse;
mod policy;
mod positions;
mod problem;
mod protocols;
mod quota;
mod rate;
mod read_groups;
mod size;
mod source_line;
mod steer;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
mod tls_files;
mod warnings;
mod worker_count;
mod workers;

pub use access_log::{AccessLogPolicy, OpenedRecords};
pub use ban::BanPolicy;
pub use change::PolicyChange;
pub use client::{ClientPolicy, WhenFull};
pub use client_name::{ClientName, ClientNameError};
pub use decide::{DecidingRule, Decision, DenyReason};
pub use destination::Destination;
pub use diff::{PolicyDifference, difference};
pub use duration::{DurationError, parse_duration};
pub use edit::{EditError, PolicyEdit, grant};
pub use explain::{Explanation, explain};
pub use format::reference::{ReferenceError, reference};
pub use format::schema::schema;
pub use freebind::Freebind;
pub use gateway::{GatewayLimits, GatewayPolicy, GatewayTimeouts, OnRevoke};
pub use generate::generate;
pub use group::{
    GroupPolicy, GroupTimeouts, ProxyProtocol, UpstreamPolicy, UpstreamState, WhenAllDown,
};
pub use health::{CheckPolicy, HealthPolicy, OnDown};
pub use ip_prefix::{IpPrefix, IpPrefixError};
pub use name::{SniName, SniNameError};
pub use parse::LARGEST_FILE;
pub use policy::Policy;
pub use positions::PolicyKey;
pub use problem::{PolicyError, Problem};
pub use quota::Quota;
pub use rate::RatePolicy;
pub use size::MemoryLimit;
pub use source_line::SourceLine;
pub use steer::{SteerMode, SteerPolicy};
pub use tls_files::{ExpiredCrl, TlsFile, TlsFiles, TlsPositions};
pub use worker_count::MOST_STEERED_WORKERS;
pub use workers::{WorkerAffinity, WorkerPolicy};
