//! Difference between two policies in words, in particular the clients that gain or lose access.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::change::PolicyChange;
use crate::policy::Policy;

/// Difference between two policies, in lines of text; made by [`difference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyDifference {
    changes: Vec<String>,
    /// Changes of the names, ports and protocols of groups that are in both policies, and of the
    /// treatment of clients' connections over their limit.
    reach: Vec<String>,
    gained: Vec<GroupAccess>,
    lost: Vec<GroupAccess>,
}

/// A client and a group that it may reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct GroupAccess {
    client: String,
    group: String,
}

impl PolicyDifference {
    /// Returns true if there is no change from the old policy to the new one.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Returns the difference from `old` to `new`.
///
/// # Examples
///
/// ```
/// use policy::{Policy, difference, generate};
///
/// let old = Policy::parse("old.yaml", &generate(2, 2))?;
/// let new = Policy::parse("new.yaml", &generate(2, 3))?;
/// assert_eq!(
///     difference(&old, &new).to_string(),
///     "add client `client-2`\n+ client `client-2` may reach `group-0`\n"
/// );
/// # Ok::<(), policy::PolicyError>(())
/// ```
pub fn difference(old: &Policy, new: &Policy) -> PolicyDifference {
    let changes = old.changes(new);
    // Access depends only on grants: a grant cannot outlive its group, and names and ports grant
    // nothing.
    let clients: BTreeSet<&str> = changes.iter().filter_map(client).collect();
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    for client in clients {
        let (before, after) = (granted(old, client), granted(new, client));
        let access = |group: &Arc<str>| GroupAccess {
            client: client.into(),
            group: group.to_string(),
        };
        gained.extend(
            after
                .iter()
                .filter(|g| before.binary_search(g).is_err())
                .map(access),
        );
        lost.extend(
            before
                .iter()
                .filter(|g| after.binary_search(g).is_err())
                .map(access),
        );
    }
    PolicyDifference {
        changes: changes.iter().map(|change| told(old, change)).collect(),
        reach: changes
            .iter()
            .flat_map(|change| reach(old, change).into_iter().chain(when_full(old, change)))
            .collect(),
        gained,
        lost,
    }
}

fn client(change: &PolicyChange) -> Option<&str> {
    match change {
        PolicyChange::PutClient(client) => Some(client.name.as_str()),
        PolicyChange::RemoveClient(name) => Some(name.as_str()),
        PolicyChange::Gateway(_) | PolicyChange::PutGroup(_) | PolicyChange::RemoveGroup(_) => None,
    }
}

fn granted<'p>(policy: &'p Policy, client: &str) -> &'p [Arc<str>] {
    policy.client(client).map_or(&[], |client| &client.groups)
}

fn told(old: &Policy, change: &PolicyChange) -> String {
    match change {
        PolicyChange::PutGroup(group) if old.group(&group.name).is_some() => {
            format!("alter group `{}`", group.name)
        }
        PolicyChange::PutGroup(group) => format!("add group `{}`", group.name),
        PolicyChange::PutClient(client) if old.client(client.name.as_str()).is_some() => {
            format!("alter client `{}`", client.name)
        }
        PolicyChange::PutClient(client) => format!("add client `{}`", client.name),
        PolicyChange::Gateway(_) | PolicyChange::RemoveClient(_) | PolicyChange::RemoveGroup(_) => {
            change.to_string()
        }
    }
}

/// Returns lines about the names, ports and protocols by which the group of a change is now reached
/// in another way than before.
fn reach(old: &Policy, change: &PolicyChange) -> Vec<String> {
    let PolicyChange::PutGroup(after) = change else {
        return Vec::new();
    };
    let Some(before) = old.group(&after.name) else {
        return Vec::new();
    };
    let group = &after.name;
    let mut lines = moved(&before.sni, &after.sni, "name", group);
    lines.extend(moved(&before.ports, &after.ports, "port", group));
    let is_narrower = before.alpn.is_empty()
        || before
            .alpn
            .iter()
            .any(|protocol| !after.alpn.contains(protocol));
    if !after.alpn.is_empty() && is_narrower {
        let protocols = after.alpn.iter().map(|one| String::from_utf8_lossy(one));
        let protocols: Vec<_> = protocols.collect();
        lines.push(format!(
            "- group `{group}` speaks only `{}`: clients that offer other protocols alone are refused",
            protocols.join("`, `")
        ));
    }
    lines
}

/// Returns a line about the treatment of a client's connections over its limit, if that has
/// changed.
fn when_full(old: &Policy, change: &PolicyChange) -> Option<String> {
    let PolicyChange::PutClient(after) = change else {
        return None;
    };
    let before = old.client(after.name.as_str())?.when_full;
    (before != after.when_full).then(|| {
        let (client, now) = (&after.name, after.when_full);
        format!("- client `{client}` with all connections open: `{now}`, it was `{before}`")
    })
}

/// Returns lines for the names or ports (`what`) that no longer lead to the group, and for those
/// that lead to it now.
fn moved<T: PartialEq + fmt::Display>(
    before: &[T],
    after: &[T],
    what: &str,
    group: &str,
) -> Vec<String> {
    let gone = before.iter().filter(|one| !after.contains(one));
    let gone = gone.map(|one| format!("- {what} `{one}` no longer leads to group `{group}`"));
    let come = after.iter().filter(|one| !before.contains(one));
    gone.chain(come.map(|one| format!("+ {what} `{one}` leads to group `{group}`")))
        .collect()
}

impl fmt::Display for PolicyDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no difference");
        }
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for line in &self.reach {
            writeln!(f, "{line}")?;
        }
        for GroupAccess { client, group } in &self.gained {
            writeln!(f, "+ client `{client}` may reach `{group}`")?;
        }
        for GroupAccess { client, group } in &self.lost {
            writeln!(f, "- client `{client}` may no longer reach `{group}`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{policy, with};

    #[test]
    fn a_difference_says_who_gains_and_who_loses_access() {
        let old = policy(&with(
            "groups: {a: {upstreams: ['10.0.0.1:1']}, b: {upstreams: ['10.0.0.1:1']}}
clients: {one: {groups: [a, b]}, two: {groups: [b]}, same: {groups: [a]}}
",
        ));
        let new = policy(&with(
            "groups: {a: {tries: 1, upstreams: ['10.0.0.1:1']}, c: {upstreams: ['10.0.0.1:1']}}
clients: {one: {groups: [a, c]}, three: {groups: [a]}, same: {groups: [a]}}
",
        ));
        assert_eq!(
            difference(&old, &new).to_string(),
            "alter group `a`\nadd group `c`\nalter client `one`\nadd client `three`\n\
             remove client `two`\nremove group `b`\n\
             + client `one` may reach `c`\n+ client `three` may reach `a`\n\
             - client `one` may no longer reach `b`\n- client `two` may no longer reach `b`\n"
        );
        assert!(!difference(&old, &new).is_empty());
        let none = difference(&old, &old.clone());
        assert!(none.is_empty());
        assert_eq!(none.to_string(), "no difference\n");
    }

    #[test]
    fn a_difference_says_whether_a_client_waits_over_its_limit() {
        let rules = |more: &str| {
            policy(&with(&format!(
                "groups: {{a: {{upstreams: ['10.0.0.1:1']}}}}\nclients: {{one: {{groups: [a], max_connections: 2{more}}}}}\n"
            )))
        };
        assert_eq!(
            difference(&rules(""), &rules(", when_full: {wait: 5s}")).to_string(),
            "alter client `one`\n- client `one` with all connections open: `wait 5s`, it was `reset`\n"
        );
    }

    #[test]
    fn a_difference_says_which_names_ports_and_protocols_lead_elsewhere() {
        let group = |more: &str| {
            policy(&with(&format!(
                "groups: {{a: {{{more}, upstreams: ['10.0.0.1:1']}}}}\nclients: {{one: {{groups: [a]}}}}\n"
            )))
        };
        let old = group("sni: [a, old], ports: [1, 2]");
        let new = group("sni: [a, new], ports: [2, 3], alpn: [h2]");
        assert_eq!(
            difference(&old, &new).to_string(),
            "alter group `a`\n- name `old` no longer leads to group `a`\n+ name `new` leads to group `a`\n\
             - port `1` no longer leads to group `a`\n+ port `3` leads to group `a`\n\
             - group `a` speaks only `h2`: clients that offer other protocols alone are refused\n"
        );
        let wider = group("sni: [a, new], ports: [2, 3], alpn: [http/1.1, h2]");
        assert_eq!(difference(&new, &wider).to_string(), "alter group `a`\n");
        let narrower = difference(&wider, &new).to_string();
        assert!(narrower.contains("speaks only `h2`"), "{narrower}");
    }
}
