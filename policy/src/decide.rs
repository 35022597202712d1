//! Decides whether a client may reach a destination.
//!
//! Names compare in lower case and without a final dot. An exact name takes precedence over a
//! wildcard, and the longer of two wildcards over the shorter; `*.example.test` matches every name
//! with one label or more before `.example.test`, and does not match `example.test`. Without SNI
//! the destination port decides.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::client_name::ClientName;
use super::{ClientPolicy, GroupPolicy, Policy, SniName};

/// Index of groups by SNI name and by destination port.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GroupIndex {
    exact: HashMap<Arc<str>, Arc<GroupPolicy>>,
    below: HashMap<Arc<str>, Arc<GroupPolicy>>,
    /// The number of suffixes in `below` for each number of dots.
    depths: OrdMap<usize, usize>,
    ports: HashMap<u16, Arc<GroupPolicy>>,
}

impl GroupIndex {
    /// Adds the group's names and ports.
    pub(super) fn insert(&mut self, group: &Arc<GroupPolicy>) {
        for name in &group.sni {
            let (map, key) = self.names(name);
            let is_new = map.insert(key, Arc::clone(group)).is_none();
            if let SniName::Below(suffix) = name
                && is_new
            {
                *self.depths.entry(dots(suffix)).or_insert(0) += 1;
            }
        }
        for &port in &group.ports {
            self.ports.insert(port, Arc::clone(group));
        }
    }

    /// Removes the group's names and ports, except those that lead to another group by now.
    pub(super) fn remove(&mut self, group: &GroupPolicy) {
        let is_own = |found: Option<&Arc<GroupPolicy>>| found.is_some_and(|g| g.name == group.name);
        for name in &group.sni {
            let (map, key) = self.names(name);
            if is_own(map.get(&key)) {
                map.remove(&key);
                if let SniName::Below(suffix) = name {
                    self.forget_depth(dots(suffix));
                }
            }
        }
        for port in &group.ports {
            if is_own(self.ports.get(port)) {
                self.ports.remove(port);
            }
        }
    }

    fn forget_depth(&mut self, depth: usize) {
        match self.depths.get_mut(&depth) {
            Some(names) if *names > 1 => *names -= 1,
            Some(_) | None => drop(self.depths.remove(&depth)),
        }
    }

    fn names(&mut self, name: &SniName) -> (&mut HashMap<Arc<str>, Arc<GroupPolicy>>, Arc<str>) {
        match name {
            SniName::Exact(name) => (&mut self.exact, Arc::clone(name)),
            SniName::Below(suffix) => (&mut self.below, Arc::clone(suffix)),
        }
    }

    /// Returns the group with this SNI name, in any case and with or without a final dot.
    pub(super) fn by_name(&self, sni: &str) -> Option<&Arc<GroupPolicy>> {
        let name = sni.strip_suffix('.').unwrap_or(sni);
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        if let found @ Some(_) = self.exact.get(&*name) {
            return found;
        }
        if self.below.is_empty() {
            return None;
        }
        // From the longest suffix to the shortest, and only those with as many dots as a wildcard:
        // to hash all suffixes of a name of 127 labels takes longer than everything else that is
        // done for it.
        let all = dots(&name);
        let suffixes = name.match_indices('.').enumerate();
        suffixes
            .filter(|(n, (at, _))| *at > 0 && self.depths.contains_key(&(all - n - 1)))
            .find_map(|(_, (at, _))| self.below.get(&name[at + 1..]))
    }

    /// Iterates over the ports that lead to a group, in no particular order.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.keys().copied()
    }

    /// Returns the group that clients without SNI reach by this destination port.
    pub(super) fn by_port(&self, port: u16) -> Option<&Arc<GroupPolicy>> {
        self.ports.get(&port)
    }
}

fn dots(name: &str) -> usize {
    name.bytes().filter(|byte| *byte == b'.').count()
}

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
    use super::super::tests::{policy, with};
    use super::*;

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
    fn only_suffixes_that_are_as_deep_as_a_wildcard_are_looked_up() {
        let groups = |sni: &str| {
            let policy = policy(&with(&format!(
                "groups: {{a: {{sni: [{sni}], upstreams: ['10.0.0.1:1']}}, b: {{upstreams: ['10.0.0.1:1']}}}}\nclients: {{one: {{groups: [a]}}}}\n"
            )));
            policy.index.depths.clone()
        };
        assert!(groups("a.b.test").is_empty());
        let depths = groups("'*.b.test', '*.c.test', '*.test', x");
        assert_eq!(depths.into_iter().collect::<Vec<_>>(), [(0, 1), (1, 2)]);
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
