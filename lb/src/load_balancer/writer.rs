//! What a change of groups does.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{group::Group, group_config::GroupConfig, limit::Name, probe::Prober};

/// How many removed groups are remembered before those without connections are looked for.
const RETIRED_KEPT: usize = 1024;

/// Who changes groups, one change at a time.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) prober: Option<Prober>,
    /// Removed groups, found again by their connections if they come back.
    retired: HashMap<Name, Weak<Group>>,
}

impl Writer {
    /// Adds a group or alters it.
    pub(super) fn put(
        &mut self,
        groups: &mut imbl::HashMap<Name, Arc<Group>>,
        config: GroupConfig,
    ) {
        let name = Arc::clone(&config.name);
        let retired = || self.retired.remove(&name).and_then(|group| group.upgrade());
        let group = match groups.get(&name).map(Arc::clone).or_else(retired) {
            Some(group) => {
                group.alter(config);
                group
            }
            None => Arc::new(Group::new(config)),
        };
        if let Some(prober) = &self.prober {
            group.probe(prober);
        }
        groups.insert(name, group);
    }

    /// Removes a group, whose connections go on.
    pub(super) fn remove(&mut self, groups: &mut imbl::HashMap<Name, Arc<Group>>, name: &Name) {
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
