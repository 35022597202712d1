//! Reads `groups:`, and reports what two groups, or a group and the gateway, cannot have together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::client_name::ClientName;
use crate::fields::{self, quote};
use crate::group::{self, GroupPolicy};
use crate::problem::ProblemList;
use policy_yaml::{TextPosition, YamlNode, YamlValue};

/// Groups that were read without a problem, and the names of all groups.
#[derive(Debug, Default)]
pub(crate) struct ReadGroups<'n> {
    pub(crate) read: Vec<Arc<GroupPolicy>>,
    pub(crate) names: HashMap<&'n str, Arc<str>>,
}

impl<'n> ReadGroups<'n> {
    /// Reads all groups. What is wrong with one is reported, and the others are read.
    pub(crate) fn read(node: &'n YamlNode<'_>, problems: &mut ProblemList) -> Self {
        let entries = fields::entries(node, "groups", problems);
        let mut groups = Self {
            read: Vec::with_capacity(entries.len()),
            names: HashMap::with_capacity(entries.len()),
        };
        for (name, at, node) in entries {
            if let Err(error) = ClientName::new(name) {
                problems.report(
                    at,
                    format!("{} is not a group's name: {error}", quote(name)),
                );
            }
            let group = group::read(name, at, node, problems).map(Arc::new);
            let shared = group
                .as_ref()
                .map_or_else(|| Arc::from(name), |group| Arc::clone(&group.name));
            groups.names.insert(name, shared);
            groups.read.extend(group);
        }
        groups.refuse_shared_names(node, problems);
        groups
    }

    /// Reports groups whose keepalive is longer than that of the gateway (`most`).
    pub(crate) fn refuse_rare_keepalive(
        &self,
        most: Duration,
        node: &YamlNode<'_>,
        problems: &mut ProblemList,
    ) {
        for group in &self.read {
            if group.timeouts.keepalive.is_some_and(|own| own > most) {
                report_at(node, (group, "timeouts", 0), problems, || {
                    format!(
                        "`keepalive` of this group is longer than the gateway's ({most:?}), which no group may exceed"
                    )
                });
            }
        }
    }

    /// Reports names and ports that lead to two groups.
    fn refuse_shared_names(&self, node: &YamlNode<'_>, problems: &mut ProblemList) {
        let mut names = HashMap::with_capacity(self.read.len());
        let mut ports = HashMap::new();
        for group in &self.read {
            for (n, name) in group.sni.iter().enumerate() {
                if let Some(first) = names.insert(name, group)
                    && first.name != group.name
                {
                    let which = || twice("name", &name.to_string(), first);
                    report_at(node, (group, "sni", n), problems, which);
                }
            }
            for (n, port) in group.ports.iter().enumerate() {
                if let Some(first) = ports.insert(port, group) {
                    let which = || twice("port", &port.to_string(), first);
                    report_at(node, (group, "ports", n), problems, which);
                }
            }
        }
    }
}

/// Reports a problem with the `n`th item of a group's list. To find its position takes a search
/// through all groups, which is made only while problems are still reported.
fn report_at(
    groups: &YamlNode<'_>,
    (group, list, n): (&GroupPolicy, &str, usize),
    problems: &mut ProblemList,
    message: impl FnOnce() -> String,
) {
    if problems.is_full() {
        problems.skip(1);
    } else {
        problems.report(position(groups, group, list, n), message());
    }
}

fn twice(what: &str, which: &str, first: &GroupPolicy) -> String {
    let (group, line) = (&first.name, first.line.number());
    format!(
        "{what} `{which}` already leads to group `{group}` (line {line}); expected it in one group \
         only"
    )
}

/// Returns the position of the `n`th item of a group's list, or else of the group's name.
fn position(groups: &YamlNode<'_>, group: &GroupPolicy, list: &str, n: usize) -> TextPosition {
    let entry = |node: &YamlNode<'_>, name: &str| {
        let YamlValue::Map(map) = &node.value else {
            return None;
        };
        let has_name =
            |key: &YamlNode<'_>| matches!(&key.value, YamlValue::Text(text) if text == name);
        map.iter().position(|(key, _)| has_name(key))
    };
    let YamlValue::Map(map) = &groups.value else {
        return groups.at;
    };
    let Some(found) = entry(groups, &group.name) else {
        return groups.at;
    };
    let (key, value) = &map[found];
    let YamlValue::Map(fields) = &value.value else {
        return key.at;
    };
    let Some(found) = entry(value, list) else {
        return key.at;
    };
    if let YamlValue::List(items) = &fields[found].1.value {
        items.get(n).map_or(key.at, |item| item.at)
    } else {
        key.at
    }
}
