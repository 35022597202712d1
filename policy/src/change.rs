//! Differences between two policies as a list of changes, and how to apply them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;

use crate::client::ClientPolicy;
use crate::client_name::ClientName;
use crate::gateway::GatewayPolicy;
use crate::group::GroupPolicy;
use crate::policy::Policy;

/// One change of a policy; see [`Policy::changes`] and [`Policy::apply`].
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyChange {
    /// The settings of the gateway are replaced by these.
    Gateway(Arc<GatewayPolicy>),
    /// The group is added, or replaces the group with the same name.
    PutGroup(Arc<GroupPolicy>),
    /// The client is added, or replaces the client with the same name.
    PutClient(Arc<ClientPolicy>),
    /// The client with this name is removed.
    RemoveClient(ClientName),
    /// The group with this name is removed.
    RemoveGroup(Arc<str>),
}

impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(_) => f.write_str("alter the gateway's settings"),
            Self::PutGroup(group) => {
                let upstreams = group.upstreams.len();
                let s = if upstreams == 1 { "" } else { "s" };
                write!(f, "put group `{}` with {upstreams} upstream{s}", group.name)
            }
            Self::PutClient(client) => {
                let groups = client.groups.join("`, `");
                write!(f, "put client `{}`, granted `{groups}`", client.name)
            }
            Self::RemoveClient(name) => write!(f, "remove client `{name}`"),
            Self::RemoveGroup(name) => write!(f, "remove group `{name}`"),
        }
    }
}

impl Policy {
    /// Returns the changes from this policy to `new`, always in the same order: the gateway, groups
    /// that are added or altered, clients that are added or altered, clients that are removed,
    /// groups that are removed; each sorted by name.
    ///
    /// # Examples
    ///
    /// ```
    /// use policy::{Policy, generate};
    ///
    /// // Two groups and two clients, then three clients.
    /// let old = Policy::parse("policy.yaml", &generate(2, 2))?;
    /// let new = Policy::parse("policy.yaml", &generate(2, 3))?;
    ///
    /// let changes = old.changes(&new);
    /// assert_eq!(changes.len(), 1);
    /// assert_eq!(changes[0].to_string(), "put client `client-2`, granted `group-0`");
    /// assert_eq!(old.apply(&changes), new);
    /// # Ok::<(), policy::PolicyError>(())
    /// ```
    pub fn changes(&self, new: &Self) -> Vec<PolicyChange> {
        let groups: Vec<_> = new.groups.values().cloned().collect();
        let clients: Vec<_> = new.clients.values().cloned().collect();
        self.changes_to(&new.gateway, &groups, &clients)
    }

    /// Returns the changes from this policy to one with these parts, in the order of
    /// [`Policy::changes`]. Each part is looked up in this policy once; a search for removed parts
    /// is made only if there are any.
    pub(crate) fn changes_to(
        &self,
        gateway: &Arc<GatewayPolicy>,
        groups: &[Arc<GroupPolicy>],
        clients: &[Arc<ClientPolicy>],
    ) -> Vec<PolicyChange> {
        let mut changes = Vec::new();
        if self.gateway != *gateway {
            changes.push(PolicyChange::Gateway(Arc::clone(gateway)));
        }
        let (mut put, common) = differing(groups, |group| self.groups.get(&group.name));
        put.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        changes.extend(put.into_iter().map(PolicyChange::PutGroup));
        let groups_go = common < self.groups.len();

        let (mut put, common) = differing(clients, |client| self.clients.get(client.name.as_str()));
        put.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        changes.extend(put.into_iter().map(PolicyChange::PutClient));

        if common < self.clients.len() {
            let stay: HashSet<&str> = clients.iter().map(|client| client.name.as_str()).collect();
            let names = self.clients.values().map(|client| &client.name);
            let mut gone: Vec<_> = names.filter(|name| !stay.contains(name.as_str())).collect();
            gone.sort_unstable();
            changes.extend(gone.into_iter().cloned().map(PolicyChange::RemoveClient));
        }
        if groups_go {
            let stay: HashSet<&str> = groups.iter().map(|group| &*group.name).collect();
            let mut gone: Vec<_> = self
                .groups
                .keys()
                .filter(|name| !stay.contains(&***name))
                .collect();
            gone.sort_unstable();
            changes.extend(gone.into_iter().cloned().map(PolicyChange::RemoveGroup));
        }
        changes
    }

    /// Returns this policy with `changes` applied. It shares with this policy everything that they
    /// do not touch.
    #[must_use]
    pub fn apply(&self, changes: &[PolicyChange]) -> Self {
        let mut next = self.clone();
        for change in changes {
            match change {
                PolicyChange::Gateway(gateway) => next.gateway = Arc::clone(gateway),
                PolicyChange::PutGroup(group) => next.put_group(group),
                PolicyChange::PutClient(client) => next.put_client(client),
                PolicyChange::RemoveClient(name) => drop(next.clients.remove(name.as_str())),
                PolicyChange::RemoveGroup(name) => next.remove_group(name),
            }
        }
        next
    }

    pub(crate) fn put_group(&mut self, group: &Arc<GroupPolicy>) {
        self.remove_group(&group.name);
        self.index.insert(group);
        *self
            .protocols
            .entry(group.alpn.as_slice().into())
            .or_insert(0) += 1;
        self.groups
            .insert(Arc::clone(&group.name), Arc::clone(group));
    }

    pub(crate) fn put_client(&mut self, client: &Arc<ClientPolicy>) {
        self.clients
            .insert(Arc::clone(client.name.shared()), Arc::clone(client));
    }

    fn remove_group(&mut self, name: &str) {
        let Some(group) = self.groups.remove(name) else {
            return;
        };
        self.index.remove(&group);
        forget(&mut self.protocols, &group.alpn);
    }
}

/// Returns the parts that are not in `old` or differ from it, and the number of parts that `old`
/// knows.
fn differing<'o, T: PartialEq + 'o>(
    parts: &[Arc<T>],
    old: impl Fn(&T) -> Option<&'o Arc<T>>,
) -> (Vec<Arc<T>>, usize) {
    let (mut put, mut common) = (Vec::new(), 0);
    for part in parts {
        let old = old(part);
        common += usize::from(old.is_some());
        if old.is_none_or(|old| !Arc::ptr_eq(old, part) && old != part) {
            put.push(Arc::clone(part));
        }
    }
    (put, common)
}

fn forget(protocols: &mut OrdMap<Arc<[Vec<u8>]>, usize>, list: &[Vec<u8>]) {
    match protocols.get_mut(list) {
        Some(groups) if *groups > 1 => *groups -= 1,
        Some(_) | None => drop(protocols.remove(list)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::test_support::{Dice, policy, with};

    /// A small random policy, so that two of them meet in names, SNI, ports and protocols.
    fn random(dice: &mut Dice) -> Policy {
        let mut text = format!(
            "groups:\n  base: {{upstreams: ['10.0.0.{}:1']}}\n",
            1 + dice.below(2)
        );
        let mut free: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
        free.extend((0..4).map(|n| format!("'*.n{n}'")));
        let mut ports: Vec<usize> = (1..6).collect();
        let mut groups = vec!["base".to_owned()];
        for n in 0..6 {
            if dice.below(3) == 0 || free.is_empty() {
                continue;
            }
            let sni = free.swap_remove(dice.below(free.len()));
            write!(text, "  g{n}: {{sni: [{sni}], upstreams: ['10.0.0.1:1']").unwrap();
            if !ports.is_empty() && dice.below(2) == 0 {
                write!(
                    text,
                    ", ports: [{}]",
                    ports.swap_remove(dice.below(ports.len()))
                )
                .unwrap();
            }
            if dice.below(2) == 0 {
                write!(text, ", alpn: [p{}, q]", dice.below(3)).unwrap();
            }
            text += "}\n";
            groups.push(format!("g{n}"));
        }
        text += "clients:\n  base: {groups: [base]}\n";
        for n in 0..6 {
            if dice.below(3) > 0 {
                let (group, most) = (&groups[dice.below(groups.len())], 1 + dice.below(2));
                writeln!(
                    text,
                    "  c{n}: {{groups: [{group}], max_connections: {most}}}"
                )
                .unwrap();
            }
        }
        policy(&with(&text))
    }

    #[test]
    fn applying_the_changes_leads_to_the_new_policy_with_all_its_indexes() {
        let mut dice = Dice(7);
        for round in 0..2_000 {
            let (old, new) = (random(&mut dice), random(&mut dice));
            let changes = old.changes(&new);
            let applied = old.apply(&changes);
            assert!(applied == new, "round {round}: {changes:#?}");
            assert!(applied.changes(&new).is_empty());
            assert_eq!(changes.is_empty(), old == new);
            assert_eq!(changes, old.changes(&new.clone()));
        }
    }

    #[test]
    fn names_can_be_swapped_between_groups_in_one_step() {
        let of = |a: &str, b: &str| {
            policy(&with(&format!(
                "groups:
  a: {{sni: [{a}], ports: [{}], upstreams: ['10.0.0.1:1']}}
  b: {{sni: [{b}], ports: [{}], upstreams: ['10.0.0.1:1']}}
clients: {{one: {{groups: [a]}}}}
",
                a.len(),
                b.len()
            )))
        };
        let (old, new) = (of("x", "yy"), of("yy", "x"));
        assert!(old.apply(&old.changes(&new)) == new);
    }

    #[test]
    fn a_moved_line_is_no_change() {
        let text =
            with("groups: {a: {upstreams: ['10.0.0.1:1']}}\nclients: {one: {groups: [a]}}\n");
        assert!(
            policy(&text)
                .changes(&policy(&format!("# first\n{text}")))
                .is_empty()
        );
    }

    #[test]
    fn changes_are_told_in_the_operators_words() {
        let old = policy(&with(
            "groups: {a: {upstreams: ['10.0.0.1:1']}, b: {upstreams: ['10.0.0.1:1']}}
clients: {one: {groups: [a]}, two: {groups: [b]}}
",
        ));
        let new = policy(
            &with(
                "groups: {a: {upstreams: ['10.0.0.1:1', '10.0.0.2:1']}, c: {upstreams: ['10.0.0.1:1']}}
clients: {one: {groups: [a, c]}}
",
            )
            .replace("gateway: {", "gateway: {on_revoke: keep, "),
        );
        let told: Vec<String> = old.changes(&new).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "alter the gateway's settings",
                "put group `a` with 2 upstreams",
                "put group `c` with 1 upstream",
                "put client `one`, granted `a`, `c`",
                "remove client `two`",
                "remove group `b`",
            ]
        );
    }
}
