//! Reads mappings: sections with fixed keys, and names with a value each.

use std::collections::HashSet;

use super::text::text;
use crate::format::kinds::{FormatSection, KeyDefault};
use crate::problem::{ProblemList, did_you_mean};
use policy_yaml::{TextPosition, YamlNode, YamlValue};
use policy_yaml::{describe, quote};

/// Number of keys above which a mapping is not checked further once enough problems are found; more
/// than any section has.
const MANY_KEYS: usize = 64;

/// Entries of a mapping that is a section of the format.
#[derive(Debug)]
pub(crate) struct MappingFields<'n, 't> {
    at: TextPosition,
    section: &'static FormatSection,
    entries: &'n [(YamlNode<'t>, YamlNode<'t>)],
}

impl<'n, 't> MappingFields<'n, 't> {
    /// Reads `node` as a section of the format and reports unknown and duplicate keys. An absent
    /// value is an empty section, so that every key of a section can be commented out. `None` means
    /// that `node` is not a mapping, which was reported.
    pub(crate) fn of(
        node: &'n YamlNode<'t>,
        section: &'static FormatSection,
        problems: &mut ProblemList,
    ) -> Option<Self> {
        let what = section.called;
        let listed = || section.names().collect::<Vec<_>>().join("`, `");
        let Some(entries) = mapping(node) else {
            let (found, keys) = (describe(node), listed());
            problems.report(
                node.at,
                format!("{found} cannot be {what}; expected a mapping with `{keys}`"),
            );
            return None;
        };
        for (n, (key, _)) in entries.iter().enumerate() {
            // Each key is compared with all before it; a mapping with so many keys is not a valid
            // section.
            if n >= MANY_KEYS && problems.is_full() {
                problems.skip(entries.len() - n);
                break;
            }
            let Some(name) = text(key, problems) else {
                continue;
            };
            if section.key(name).is_none() {
                let hint = did_you_mean(name, section.names());
                let hint = if hint.is_empty() {
                    format!("; expected `{}`", listed())
                } else {
                    hint
                };
                problems.report(
                    key.at,
                    format!("unknown key {} in {what}{hint}", quote(name)),
                );
            }
            if let Some(line) = entries[..n].iter().find(|(earlier, _)| is(earlier, name)) {
                let line = line.0.at.line;
                problems.report(
                    key.at,
                    format!("duplicate {}; it is first in line {line}", quote(name)),
                );
            }
        }
        Some(Self {
            at: node.at,
            section,
            entries,
        })
    }

    /// Creates a section without keys.
    pub(crate) fn none(section: &'static FormatSection) -> Self {
        Self {
            at: TextPosition::new(1, 1),
            section,
            entries: &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'n YamlNode<'t>> {
        debug_assert!(self.section.key(key).is_some(), "{key} is in no table");
        self.entries
            .iter()
            .find(|(name, _)| is(name, key))
            .map(|(_, value)| value)
    }

    /// Returns the value of a required key, or reports that it is missing.
    pub(crate) fn need(&self, key: &str, problems: &mut ProblemList) -> Option<&'n YamlNode<'t>> {
        let found = self.get(key);
        if found.is_none() {
            let what = self.section.called;
            problems.report(self.at, format!("`{key}` is missing in {what}"));
        }
        found
    }

    /// Returns the result of `read` for a key's value, or for the default in the format's table if
    /// the key is absent or its value is wrong.
    ///
    /// # Panics
    ///
    /// If the table has no default for the key, or one that `read` refuses.
    pub(crate) fn value<T>(
        &self,
        key: &str,
        problems: &mut ProblemList,
        read: impl Fn(&YamlNode<'_>, &mut ProblemList) -> Option<T>,
    ) -> T {
        let written = self.get(key).and_then(|node| read(node, problems));
        written.unwrap_or_else(|| {
            let usual = self.section.key(key).map(|key| key.default);
            let Some(KeyDefault::Text(text)) = usual else {
                unreachable!("`{key}` has no default in its table")
            };
            let (at, value) = (self.at, policy_yaml::plain(text));
            let usual = read(&YamlNode { at, value }, &mut ProblemList::default());
            usual.expect("each default is a value of its key")
        })
    }

    /// Returns the result of `read` for a key's value, or `absent` if the key is absent or its
    /// value is wrong.
    pub(crate) fn or<T>(
        &self,
        key: &str,
        absent: T,
        problems: &mut ProblemList,
        read: impl FnOnce(&YamlNode<'t>, &mut ProblemList) -> Option<T>,
    ) -> T {
        self.get(key)
            .and_then(|node| read(node, problems))
            .unwrap_or(absent)
    }
}

/// Returns the result of `read` for an empty section: its defaults.
///
/// # Panics
///
/// If the section has a required key.
pub(crate) fn usual<T>(read: impl FnOnce(&YamlNode<'_>, &mut ProblemList) -> Option<T>) -> T {
    let (at, value) = (TextPosition::new(1, 1), YamlValue::Nothing);
    let usual = read(&YamlNode { at, value }, &mut ProblemList::default());
    usual.expect("no key of this section must be there")
}

/// Returns the entries of a mapping; an absent value has no entries. `None` if `node` is anything
/// else.
fn mapping<'n, 't>(node: &'n YamlNode<'t>) -> Option<&'n [(YamlNode<'t>, YamlNode<'t>)]> {
    match &node.value {
        YamlValue::Map(entries) => Some(entries),
        YamlValue::Nothing => Some(&[]),
        YamlValue::Flag(_) | YamlValue::Number(_) | YamlValue::Text(_) | YamlValue::List(_) => None,
    }
}

fn is(node: &YamlNode<'_>, key: &str) -> bool {
    matches!(&node.value, YamlValue::Text(text) if text == key)
}

/// Reads a mapping from names to values: each name with its position and its value. Reports
/// duplicate names and leaves them out.
pub(crate) fn entries<'n, 't>(
    node: &'n YamlNode<'t>,
    what: &str,
    problems: &mut ProblemList,
) -> Vec<(&'n str, TextPosition, &'n YamlNode<'t>)> {
    let Some(map) = mapping(node) else {
        let found = describe(node);
        problems.report(
            node.at,
            format!("{found} cannot be the {what}; expected `name: …` lines"),
        );
        return Vec::new();
    };
    let mut seen = HashSet::with_capacity(map.len());
    let mut entries = Vec::with_capacity(map.len());
    for (key, value) in map {
        let Some(name) = text(key, problems) else {
            continue;
        };
        if seen.insert(name) {
            entries.push((name, key.at, value));
        } else if problems.is_full() {
            problems.skip(1);
        } else {
            let first = map.iter().find(|(earlier, _)| is(earlier, name));
            let line = first.map_or(key.at.line, |(earlier, _)| earlier.at.line);
            problems.report(
                key.at,
                format!("duplicate {}; it is first in line {line}", quote(name)),
            );
        }
    }
    entries
}
