//! Changes of the groups of a load balancer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::change::BalancerChange;
use crate::config_error::{ConfigError, ConfigFault};
use crate::group::UpstreamGroup;
use crate::group_config::{GroupConfig, UpstreamConfig};
use crate::limit::SharedName;
use crate::probe::Prober;

/// Number of removed groups from which on those without connections are forgotten.
const RETIRED_KEPT: usize = 1024;

/// Writer of the groups; it applies one change at a time.
#[derive(Debug, Default)]
pub(super) struct GroupWriter {
    pub(super) prober: Option<Prober>,
    /// Removed groups, weakly held by name: one that is added again while it has connections goes
    /// on with its counts.
    retired: HashMap<SharedName, Weak<UpstreamGroup>>,
}

/// Checks that every change of an upstream names a group that exists by then.
pub(super) fn check_groups(
    changes: &[BalancerChange],
    groups: &imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
) -> Result<(), ConfigError> {
    let mut moved: HashMap<&SharedName, bool> = HashMap::new();
    for change in changes {
        match change {
            BalancerChange::PutGroup(config) => drop(moved.insert(&config.name, true)),
            BalancerChange::RemoveGroup(name) => drop(moved.insert(name, false)),
            BalancerChange::PutUpstream { group, .. }
            | BalancerChange::RemoveUpstream { group, .. } => {
                let moved = moved.get(group).copied();
                if !moved.unwrap_or_else(|| groups.contains_key(group)) {
                    let (group, fault) = (Arc::clone(group), ConfigFault::NoGroup);
                    return Err(ConfigError { group, fault });
                }
            }
            BalancerChange::Connections(_) | BalancerChange::Client(_) => {}
        }
    }
    Ok(())
}

impl GroupWriter {
    /// Adds a group or alters it.
    pub(super) fn put(
        &mut self,
        groups: &mut imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
        config: GroupConfig,
    ) {
        let name = Arc::clone(&config.name);
        let retired = || self.retired.remove(&name).and_then(|group| group.upgrade());
        let group = match groups.get(&name).map(Arc::clone).or_else(retired) {
            Some(group) => {
                group.alter(config);
                group
            }
            None => Arc::new(UpstreamGroup::new(config)),
        };
        if let Some(prober) = &self.prober {
            group.probe(prober);
        }
        groups.insert(name, group);
    }

    /// Adds an upstream to a group, or alters it.
    pub(super) fn put_upstream(
        &self,
        groups: &imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
        group: &SharedName,
        upstream: UpstreamConfig,
    ) {
        if let Some(group) = groups.get(group) {
            group.put_upstream(upstream);
            self.probe_one(group, upstream.address);
        }
    }

    /// Removes an upstream from a group.
    pub(super) fn remove_upstream(
        &self,
        groups: &imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
        group: &SharedName,
        upstream: SocketAddr,
    ) {
        if let Some(group) = groups.get(group) {
            group.remove_upstream(upstream);
            self.probe_one(group, upstream);
        }
    }

    fn probe_one(&self, group: &Arc<UpstreamGroup>, upstream: SocketAddr) {
        if let Some(prober) = &self.prober {
            group.probe_one(prober, upstream);
        }
    }

    /// Removes a group, whose connections go on.
    pub(super) fn remove(
        &mut self,
        groups: &mut imbl::HashMap<SharedName, Arc<UpstreamGroup>>,
        name: &SharedName,
    ) {
        let Some(group) = groups.remove(name) else {
            return;
        };
        group.retire();
        if self.retired.len() >= RETIRED_KEPT && self.retired.len() == self.retired.capacity() {
            self.retired.retain(|_, group| group.strong_count() > 0);
        }
        self.retired
            .insert(Arc::clone(name), Arc::downgrade(&group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_groups_are_forgotten_unless_they_have_connections() {
        let (mut writer, mut groups) = (GroupWriter::default(), imbl::HashMap::new());
        let mut come_and_go = |name: String| {
            let name: SharedName = name.into();
            writer.put(&mut groups, GroupConfig::new(&*name, Vec::new()));
            let group = groups.get(&name).map(Arc::clone);
            writer.remove(&mut groups, &name);
            group.unwrap()
        };
        let connected: Vec<_> = (0..2 * RETIRED_KEPT)
            .map(|n| come_and_go(format!("connected {n}")))
            .collect();
        for n in 0..20 * RETIRED_KEPT {
            drop(come_and_go(n.to_string()));
        }
        assert!(writer.retired.len() <= 8 * RETIRED_KEPT);
        let is_known = |group: &Arc<UpstreamGroup>| writer.retired.contains_key(group.name());
        assert!(connected.iter().all(is_known));
    }
}
