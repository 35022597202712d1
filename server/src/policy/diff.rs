//! What a new policy alters, above all who gains and who loses access.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::{Change, Policy};

/// What leads from one policy to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    changes: Vec<String>,
    gained: Vec<Access>,
    lost: Vec<Access>,
}

/// A client and a group that it may reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Access {
    client: String,
    group: String,
}

impl Difference {
    /// Whether both policies say the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Tells what leads from `old` to `new`.
pub fn difference(old: &Policy, new: &Policy) -> Difference {
    let changes = old.changes(new);
    // Access goes with the grant: no grant outlives its group, and no name says who may.
    let clients: BTreeSet<&str> = changes.iter().filter_map(client).collect();
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    for client in clients {
        let (before, after) = (granted(old, client), granted(new, client));
        let access = |group: &Arc<str>| Access {
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
    Difference {
        changes: changes.iter().map(|change| told(old, change)).collect(),
        gained,
        lost,
    }
}

fn client(change: &Change) -> Option<&str> {
    match change {
        Change::PutClient(client) => Some(client.name.as_str()),
        Change::RemoveClient(name) => Some(name.as_str()),
        Change::Gateway(_) | Change::PutGroup(_) | Change::RemoveGroup(_) => None,
    }
}

fn granted<'p>(policy: &'p Policy, client: &str) -> &'p [Arc<str>] {
    policy.client(client).map_or(&[], |client| &client.groups)
}

fn told(old: &Policy, change: &Change) -> String {
    match change {
        Change::PutGroup(group) if old.group(&group.name).is_some() => {
            format!("alter group `{}`", group.name)
        }
        Change::PutGroup(group) => format!("add group `{}`", group.name),
        Change::PutClient(client) if old.client(client.name.as_str()).is_some() => {
            format!("alter client `{}`", client.name)
        }
        Change::PutClient(client) => format!("add client `{}`", client.name),
        Change::Gateway(_) | Change::RemoveClient(_) | Change::RemoveGroup(_) => change.to_string(),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no difference");
        }
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for Access { client, group } in &self.gained {
            writeln!(f, "+ client `{client}` may reach `{group}`")?;
        }
        for Access { client, group } in &self.lost {
            writeln!(f, "- client `{client}` may no longer reach `{group}`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{policy, with};
    use super::*;

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
}
