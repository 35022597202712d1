//! Reads lists without duplicates.

use std::collections::HashSet;
use std::hash::Hash;

use crate::problem::ProblemList;
use policy_yaml::describe;
use policy_yaml::{YamlNode, YamlValue};

/// Reads a list with at least one item and reports duplicates. `None` means that a problem was
/// reported.
pub(crate) fn list<'t, T: Eq + Hash + Clone>(
    node: &YamlNode<'t>,
    what: &str,
    problems: &mut ProblemList,
    read: impl FnMut(&YamlNode<'t>, &mut ProblemList) -> Option<T>,
) -> Option<Vec<T>> {
    list_by(node, what, problems, read, T::clone)
}

/// Reads a list with at least one item and reports items with the same `key`. `None` means that a
/// problem was reported.
pub(crate) fn list_by<'t, T, K: Eq + Hash>(
    node: &YamlNode<'t>,
    what: &str,
    problems: &mut ProblemList,
    mut read: impl FnMut(&YamlNode<'t>, &mut ProblemList) -> Option<T>,
    key: impl Fn(&T) -> K,
) -> Option<Vec<T>> {
    let YamlValue::List(nodes) = &node.value else {
        let found = describe(node);
        problems.report(
            node.at,
            format!("{found} is not a list; expected a list of {what}, `[…]`"),
        );
        return None;
    };
    if nodes.is_empty() {
        problems.report(
            node.at,
            format!("the list is empty; expected at least one of {what}"),
        );
        return None;
    }
    let mut items = Vec::with_capacity(nodes.len());
    let mut seen = HashSet::new();
    for node in nodes {
        let Some(item) = read(node, problems) else {
            continue;
        };
        if nodes.len() > 1 && !seen.insert(key(&item)) {
            problems.report(node.at, format!("{} is in the list twice", describe(node)));
        }
        items.push(item);
    }
    Some(items)
}
