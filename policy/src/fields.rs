//! Reads values from the YAML tree and reports for each wrong one what was expected.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;

use super::format::{FormatSection, KeyDefault};
use super::problem::{ProblemList, TextPosition, did_you_mean};
use super::yaml::{self, YamlNode, YamlValue};

pub(super) mod address;
pub(super) mod number;
pub(super) mod text;

/// Number of keys above which a mapping is not checked further once enough problems are found; more
/// than any section has.
const MANY_KEYS: usize = 64;
/// Largest number of characters of the file's text that a message quotes.
const LONGEST_QUOTE: usize = 60;

/// Entries of a mapping that is a section of the format.
#[derive(Debug)]
pub(super) struct MappingFields<'n, 't> {
    at: TextPosition,
    section: &'static FormatSection,
    entries: &'n [(YamlNode<'t>, YamlNode<'t>)],
}

impl<'n, 't> MappingFields<'n, 't> {
    /// Reads `node` as a section of the format and reports unknown and duplicate keys. An absent
    /// value is an empty section, so that every key of a section can be commented out. `None` means
    /// that `node` is not a mapping, which was reported.
    pub(super) fn of(
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
            let Some(name) = text::text(key, problems) else {
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
    pub(super) fn none(section: &'static FormatSection) -> Self {
        Self {
            at: TextPosition::new(1, 1),
            section,
            entries: &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n YamlNode<'t>> {
        debug_assert!(self.section.key(key).is_some(), "{key} is in no table");
        self.entries
            .iter()
            .find(|(name, _)| is(name, key))
            .map(|(_, value)| value)
    }

    /// Returns the value of a required key, or reports that it is missing.
    pub(super) fn need(&self, key: &str, problems: &mut ProblemList) -> Option<&'n YamlNode<'t>> {
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
    pub(super) fn value<T>(
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
            let (at, value) = (self.at, yaml::plain(text));
            let usual = read(&YamlNode { at, value }, &mut ProblemList::default());
            usual.expect("each default is a value of its key")
        })
    }

    /// Returns the result of `read` for a key's value, or `absent` if the key is absent or its
    /// value is wrong.
    pub(super) fn or<T>(
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
pub(super) fn usual<T>(read: impl FnOnce(&YamlNode<'_>, &mut ProblemList) -> Option<T>) -> T {
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
pub(super) fn entries<'n, 't>(
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
        let Some(name) = text::text(key, problems) else {
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

/// Reads a list with at least one item and reports duplicates. `None` means that a problem was
/// reported.
pub(super) fn list<'t, T: Eq + Hash + Clone>(
    node: &YamlNode<'t>,
    what: &str,
    problems: &mut ProblemList,
    read: impl FnMut(&YamlNode<'t>, &mut ProblemList) -> Option<T>,
) -> Option<Vec<T>> {
    list_by(node, what, problems, read, T::clone)
}

/// Reads a list with at least one item and reports items with the same `key`. `None` means that a
/// problem was reported.
pub(super) fn list_by<'t, T, K: Eq + Hash>(
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

/// Reads one of several words and returns its value. `None` means that a problem was reported.
pub(super) fn word<T: Copy>(
    node: &YamlNode<'_>,
    words: &[(&str, T)],
    problems: &mut ProblemList,
) -> Option<T> {
    let said = text::scalar(node, problems)?;
    // Tools that know only YAML 1.1 write `true` for `on`, and `false` for `off`.
    let is_flag =
        |flag| matches!(node.value, YamlValue::Flag(_)) && said.eq_ignore_ascii_case(flag);
    let meant = if is_flag("false") {
        "off"
    } else if is_flag("true") {
        "on"
    } else {
        said
    };
    let found = words.iter().find(|(word, _)| *word == meant);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(said, known.iter().copied());
        let known = known.join("` or `");
        problems.report(
            node.at,
            format!("{} is unknown; expected `{known}`{hint}", quote(said)),
        );
    }
    found.map(|(_, value)| *value)
}

/// Describes a value for a message: the quoted scalar, or the kind of value.
pub(super) fn describe(node: &YamlNode<'_>) -> Cow<'static, str> {
    match &node.value {
        YamlValue::Nothing => "nothing".into(),
        YamlValue::Flag(text) | YamlValue::Number(text) | YamlValue::Text(text) => {
            quote(text).into()
        }
        YamlValue::List(_) => "a list".into(),
        YamlValue::Map(_) => "a mapping".into(),
    }
}

/// Quotes a text of the file in backticks: escaped, so that it is safe for a terminal, and cut
/// after 60 characters.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(LONGEST_QUOTE)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
