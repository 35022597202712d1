//! Decides whether a client may reach a destination.
//!
//! The name that the client sends as SNI leads to a group; without SNI the destination port does.

use std::fmt;
use std::sync::Arc;

use crate::client::ClientPolicy;
use crate::client_name::ClientName;
use crate::group::GroupPolicy;
use crate::policy::Policy;

/// Decision of the policy about one client and one destination; made by [`Policy::decide`].
#[derive(Debug, Clone)]
pub enum Decision {
    /// The client may reach the group.
    Allow {
        /// The group.
        group: Arc<GroupPolicy>,
        /// The client's settings.
        client: Arc<ClientPolicy>,
    },
    /// The client may not reach the destination.
    Deny {
        /// The reason.
        reason: DenyReason,
    },
}

/// Reason why a client may not reach a destination; part of a [`Decision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The policy does not know the client.
    UnknownClient,
    /// No group has the name.
    UnknownName,
    /// No name was given, and no group owns the port.
    NoName,
    /// The client is not granted the group.
    NotGranted,
}

/// The rule behind a [`Decision`]; its text is made only when it is displayed.
#[derive(Debug, Clone)]
pub struct DecidingRule {
    file: Arc<str>,
    client: Option<Arc<ClientPolicy>>,
    group: Option<Arc<GroupPolicy>>,
    denied: Option<DenyReason>,
}

/// The client, the group, and the reason for a denial: `None` if the client may reach the group.
type LookedUp<'p> = (
    Option<&'p Arc<ClientPolicy>>,
    Option<&'p Arc<GroupPolicy>>,
    Option<DenyReason>,
);

impl Policy {
    /// Decides whether `client` may reach the name `sni`, or the destination `port` if there is no
    /// name.
    ///
    /// This costs a few hash look-ups, whatever the number of groups and clients.
    pub fn decide(&self, client: &ClientName, sni: Option<&str>, port: u16) -> Decision {
        match self.find(client, sni, port) {
            (Some(client), Some(group), None) => Decision::Allow {
                group: Arc::clone(group),
                client: Arc::clone(client),
            },
            (_, _, reason) => Decision::Deny {
                reason: reason.unwrap_or(DenyReason::UnknownClient),
            },
        }
    }

    /// Returns the rule behind the decision of [`Policy::decide`] for the same arguments.
    pub fn rule(&self, client: &ClientName, sni: Option<&str>, port: u16) -> DecidingRule {
        let (client, group, denied) = self.find(client, sni, port);
        let file = Arc::clone(&self.file);
        DecidingRule {
            file,
            client: client.cloned(),
            group: group.cloned(),
            denied,
        }
    }

    /// Returns the group of a destination: by the name if there is one, else by the port.
    pub fn leads_to(&self, sni: Option<&str>, port: u16) -> Option<&Arc<GroupPolicy>> {
        sni.map_or_else(|| self.index.by_port(port), |sni| self.index.by_name(sni))
    }

    fn find(&self, client: &ClientName, sni: Option<&str>, port: u16) -> LookedUp<'_> {
        let client = self.clients.get(client.as_str());
        let group = self.leads_to(sni, port);
        let denied = match (client, group) {
            (None, _) => Some(DenyReason::UnknownClient),
            (Some(_), None) if sni.is_some() => Some(DenyReason::UnknownName),
            (Some(_), None) => Some(DenyReason::NoName),
            (Some(client), Some(group)) if client.is_granted(&group.name) => None,
            (Some(_), Some(_)) => Some(DenyReason::NotGranted),
        };
        (client, group, denied)
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownClient => "the client is not in the policy",
            Self::UnknownName => "no group has this name",
            Self::NoName => "the client sent no name (SNI), and no group has the port",
            Self::NotGranted => "the client is not granted the group",
        })
    }
}

impl fmt::Display for DecidingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            client,
            group,
            denied,
        } = self;
        match (client, group, denied) {
            (Some(client), Some(group), _) => {
                let granted = if denied.is_none() {
                    "is granted"
                } else {
                    "is not granted"
                };
                let (ClientPolicy { name, line, .. }, group) = (&**client, &group.name);
                write!(
                    f,
                    "client `{name}` {granted} `{group}` ({file}:{})",
                    line.number()
                )
            }
            (_, _, Some(reason)) => write!(f, "{reason} ({file})"),
            (_, _, None) => write!(f, "{file}"),
        }
    }
}

#[cfg(test)]
mod small;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{policy, with};

    fn verdict(policy: &Policy, client: &str, sni: Option<&str>, port: u16) -> String {
        match policy.decide(&ClientName::new(client).unwrap(), sni, port) {
            Decision::Allow {
                group, client: by, ..
            } => {
                assert_eq!(by.name.as_str(), client);
                group.name.to_string()
            }
            Decision::Deny { reason } => format!("{reason:?}"),
        }
    }

    #[test]
    fn a_client_reaches_what_its_line_grants_and_nothing_else() {
        let policy = policy(&with(
            "groups:
  a: {sni: [a.test, '*.a.test'], ports: [8444], upstreams: ['10.0.0.1:1']}
  deep: {sni: ['*.deep.a.test', 'b.a.test'], upstreams: ['10.0.0.1:1']}
  c: {upstreams: ['10.0.0.1:1']}
clients:
  one: {groups: [a]}
  all: {groups: [c, a, deep]}
",
        ));
        for (client, sni, port, expected) in [
            ("one", Some("a.test"), 1, "a"),
            ("one", Some("A.Test."), 1, "a"),
            ("one", Some("x.a.test"), 1, "a"),
            ("one", Some("y.x.a.test"), 1, "a"),
            ("one", Some(".a.test"), 1, "UnknownName"),
            ("one", Some("xa.test"), 1, "UnknownName"),
            ("one", Some("test"), 1, "UnknownName"),
            ("one", Some(""), 8444, "UnknownName"),
            ("one", Some("c"), 1, "NotGranted"),
            ("all", Some("c"), 1, "c"),
            ("all", Some("C"), 1, "c"),
            ("all", Some("deep.a.test"), 1, "a"),
            ("all", Some("x.deep.a.test"), 1, "deep"),
            ("all", Some("y.x.DEEP.a.test"), 1, "deep"),
            ("all", Some("b.a.test"), 1, "deep"),
            ("all", Some("x.b.a.test"), 1, "a"),
            ("one", Some("b.a.test"), 1, "NotGranted"),
            ("one", None, 8444, "a"),
            ("one", None, 8443, "NoName"),
            ("One", Some("a.test"), 1, "UnknownClient"),
            ("nobody", Some("nothing"), 1, "UnknownClient"),
        ] {
            assert_eq!(
                verdict(&policy, client, sni, port),
                expected,
                "{client} {sni:?} {port}"
            );
        }
    }

    #[test]
    fn the_rule_names_the_line_that_decided() {
        let policy = policy(&with(
            "groups: {a: {upstreams: ['10.0.0.1:1']}, b: {upstreams: ['10.0.0.1:1']}}
clients:
  one: {groups: [a]}
",
        ));
        let rule = |client, sni| {
            policy
                .rule(&ClientName::new(client).unwrap(), sni, 1)
                .to_string()
        };
        assert_eq!(rule("one", Some("c")), "no group has this name (p.yaml)");
        assert_eq!(
            rule("one", None),
            "the client sent no name (SNI), and no group has the port (p.yaml)"
        );
        assert_eq!(
            rule("two", Some("a")),
            "the client is not in the policy (p.yaml)"
        );
    }
}
