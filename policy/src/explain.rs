//! Explanation, in words, of a decision about a client and a destination.

use std::fmt;

use serde::Serialize;

use crate::client::{ClientPolicy, WhenFull};
use crate::client_name::ClientName;
use crate::decide::Decision;
use crate::group::GroupPolicy;
use crate::policy::Policy;
use crate::quota::Quota;

/// [`Decision`] of the policy about a client and a destination, with the line of the policy that
/// leads to it and the limits that apply; made by [`explain`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    client: String,
    sni: Option<String>,
    port: u16,
    allowed: bool,
    rule: String,
    group: Option<String>,
    max_connections: Option<Quota>,
    /// Longest time that a connection over the client's limit waits, in seconds; `None` if it is
    /// reset.
    wait_seconds: Option<f64>,
    rate: Option<String>,
    group_max_connections: Option<Quota>,
    upstreams: Vec<String>,
}

impl Explanation {
    /// Returns true if the client may reach the destination.
    pub fn allowed(&self) -> bool {
        self.allowed
    }
}

/// Explains the result of [`Policy::decide`] for a client and a destination. Without `port`, the
/// port is that of the first address that the gateway listens on.
///
/// A text that cannot be the name of a client is explained as a denial.
///
/// # Examples
///
/// ```
/// use policy::{Policy, explain, generate};
///
/// let policy = Policy::parse("policy.yaml", &generate(2, 2))?;
/// let granted = explain(&policy, "client-0", Some("group-0.example.test"), None);
/// assert!(granted.allowed());
/// let other = explain(&policy, "client-0", Some("group-1.example.test"), None);
/// assert!(!other.allowed());
/// assert!(other.to_string().starts_with("deny: client `client-0`"));
/// # Ok::<(), policy::PolicyError>(())
/// ```
pub fn explain(policy: &Policy, client: &str, sni: Option<&str>, port: Option<u16>) -> Explanation {
    let port = port.unwrap_or_else(|| policy.gateway().listen[0].port());
    let denied = |rule: String| Explanation {
        client: client.to_owned(),
        sni: sni.map(str::to_owned),
        port,
        allowed: false,
        rule,
        group: None,
        max_connections: None,
        wait_seconds: None,
        rate: None,
        group_max_connections: None,
        upstreams: Vec::new(),
    };
    let name = match ClientName::new(client) {
        Ok(name) => name,
        Err(error) => return denied(format!("no client can have this name: {error}")),
    };
    let rule = policy.rule(&name, sni, port).to_string();
    match policy.decide(&name, sni, port) {
        Decision::Allow { group, client } => {
            let GroupPolicy {
                name,
                max_connections,
                upstreams,
                ..
            } = &*group;
            let ClientPolicy {
                max_connections: most,
                when_full,
                rate,
                ..
            } = &*client;
            Explanation {
                allowed: true,
                group: Some(name.to_string()),
                max_connections: Some(*most),
                wait_seconds: match when_full {
                    WhenFull::Reset => None,
                    WhenFull::Wait(limit) => Some(limit.as_secs_f64()),
                },
                rate: Some(rate.map_or_else(|| "unlimited".to_owned(), |rate| rate.to_string())),
                group_max_connections: Some(*max_connections),
                upstreams: upstreams
                    .iter()
                    .map(|upstream| upstream.address.to_string())
                    .collect(),
                ..denied(rule)
            }
        }
        Decision::Deny { .. } => denied(rule),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "allow" } else { "deny" };
        let destination = match &self.sni {
            Some(sni) => format!("`{}`", sni.escape_debug()),
            None => format!("port {} without a name", self.port),
        };
        let client = self.client.escape_debug();
        writeln!(f, "{verdict}: client `{client}` to {destination}")?;
        writeln!(f, "  rule: {}", self.rule)?;
        if let (Some(group), Some(most), Some(rate), Some(all)) = (
            &self.group,
            &self.max_connections,
            &self.rate,
            &self.group_max_connections,
        ) {
            writeln!(
                f,
                "  group: {group}, upstreams {}",
                self.upstreams.join(", ")
            )?;
            let wait = self.wait_seconds.map_or_else(String::new, |seconds| {
                format!(" (one more waits up to {seconds} s)")
            });
            writeln!(
                f,
                "  limits: client {most} connections{wait}, rate {rate}; group {all} connections"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{policy, with};

    #[test]
    fn an_explanation_says_verdict_rule_and_limits() {
        let policy = policy(&with(
            "groups: {a: {upstreams: ['10.0.0.1:1']}}
clients: {one: {groups: [a], max_connections: 2, rate: 5/s}}
",
        ));
        let allowed = explain(&policy, "one", Some("a"), None);
        assert!(allowed.allowed());
        assert_eq!(
            allowed.to_string(),
            "allow: client `one` to `a`\n  rule: client `one` is granted `a` (p.yaml:6)\n  \
             group: a, upstreams 10.0.0.1:1\n  \
             limits: client 2 connections, rate 5/s; group unlimited connections\n"
        );
        let waits = with(
            "groups: {a: {upstreams: ['10.0.0.1:1']}}
clients: {one: {groups: [a], max_connections: 2, when_full: {wait: 1500ms}}}
",
        );
        let waits = explain(&crate::test_support::policy(&waits), "one", Some("a"), None);
        let said = "client 2 connections (one more waits up to 1.5 s), rate unlimited";
        assert!(waits.to_string().contains(said), "{waits}");
        assert_eq!(serde_json::to_value(&waits).unwrap()["wait_seconds"], 1.5);
        let denied = explain(&policy, "one", None, None);
        assert!(!denied.allowed());
        assert_eq!(
            denied.to_string(),
            "deny: client `one` to port 8443 without a name\n  rule: the client sent no name \
             (SNI), and no group has the port (p.yaml)\n"
        );
        assert!(!explain(&policy, "", Some("a"), None).allowed());
        let json = serde_json::to_value(&allowed).unwrap();
        assert_eq!(json["max_connections"], 2, "a number, not text");
        assert_eq!(json["group_max_connections"], "unlimited");
        let json = serde_json::to_value(&denied).unwrap();
        assert_eq!(json["allowed"], false);
        assert_eq!(json["group"], serde_json::Value::Null);
    }
}
