//! The groups by the names and ports that lead to them.
//!
//! Names compare in lower case and without a final dot. An exact name takes precedence over a
//! wildcard, and the longer of two wildcards over the shorter; `*.example.test` matches every name
//! with one label or more before `.example.test`, and does not match `example.test`.

use std::borrow::Cow;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use crate::group::GroupPolicy;
use crate::name::SniName;

/// Index of groups by SNI name and by destination port.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct GroupIndex {
    exact: HashMap<Arc<str>, Arc<GroupPolicy>>,
    below: HashMap<Arc<str>, Arc<GroupPolicy>>,
    /// The number of suffixes in `below` for each number of dots.
    depths: OrdMap<usize, usize>,
    ports: HashMap<u16, Arc<GroupPolicy>>,
}

impl GroupIndex {
    /// Adds the group's names and ports.
    pub(crate) fn insert(&mut self, group: &Arc<GroupPolicy>) {
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
    pub(crate) fn remove(&mut self, group: &GroupPolicy) {
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
    pub(crate) fn by_name(&self, sni: &str) -> Option<&Arc<GroupPolicy>> {
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
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.keys().copied()
    }

    /// Returns the group that clients without SNI reach by this destination port.
    pub(crate) fn by_port(&self, port: u16) -> Option<&Arc<GroupPolicy>> {
        self.ports.get(&port)
    }
}

fn dots(name: &str) -> usize {
    name.bytes().filter(|byte| *byte == b'.').count()
}

#[cfg(test)]
mod tests {
    use crate::test_support::{policy, with};

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
}
