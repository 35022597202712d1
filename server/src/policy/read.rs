//! Values out of the tree, each with the sentence that says what was expected instead.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::problem::{At, Problems, did_you_mean};
use super::yaml::{Node, Value};
use super::{Quota, Rate};

/// More keys than any section has.
const MANY_KEYS: usize = 64;
/// The longest text that is repeated in a message, in characters.
const LONGEST_QUOTE: usize = 60;

/// The entries of a mapping whose keys are all known.
#[derive(Debug)]
pub(super) struct Fields<'n, 't> {
    at: At,
    what: &'n str,
    entries: &'n [(Node<'t>, Node<'t>)],
}

impl<'n, 't> Fields<'n, 't> {
    /// Takes `node`, which is `what`, for a mapping with some of `keys`. Nothing at all is an empty
    /// one, so that every key of a section can be commented out.
    pub(super) fn of(
        node: &'n Node<'t>,
        what: &'n str,
        keys: &[&str],
        problems: &mut Problems,
    ) -> Option<Self> {
        let Some(entries) = mapping(node) else {
            let keys = keys.join("`, `");
            let found = describe(node);
            problems.report(
                node.at,
                format!("{found} cannot be {what}; expected a mapping with `{keys}`"),
            );
            return None;
        };
        for (n, (key, _)) in entries.iter().enumerate() {
            // Each key costs a search among those before it, and no section has so many.
            if n >= MANY_KEYS && problems.is_full() {
                problems.skip(entries.len() - n);
                break;
            }
            let Some(name) = text(key, problems) else {
                continue;
            };
            if !keys.contains(&name) {
                let hint = did_you_mean(name, keys.iter().copied());
                let hint = if hint.is_empty() {
                    format!("; expected `{}`", keys.join("`, `"))
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
                    format!("{} is already there in line {line}", quote(name)),
                );
            }
        }
        Some(Self {
            at: node.at,
            what,
            entries,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node<'t>> {
        self.entries
            .iter()
            .find(|(name, _)| is(name, key))
            .map(|(_, value)| value)
    }

    /// The value of a key that must be there.
    pub(super) fn need(&self, key: &str, problems: &mut Problems) -> Option<&'n Node<'t>> {
        let found = self.get(key);
        if found.is_none() {
            problems.report(self.at, format!("`{key}` is missing in {}", self.what));
        }
        found
    }

    /// What `read` makes of a key's value, or `default` without the key.
    pub(super) fn or<T>(
        &self,
        key: &str,
        default: T,
        problems: &mut Problems,
        read: impl FnOnce(&Node<'t>, &mut Problems) -> Option<T>,
    ) -> T {
        self.get(key)
            .and_then(|node| read(node, problems))
            .unwrap_or(default)
    }
}

/// The entries of a mapping, none if nothing is written there.
fn mapping<'n, 't>(node: &'n Node<'t>) -> Option<&'n [(Node<'t>, Node<'t>)]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        Value::Nothing => Some(&[]),
        Value::Text(_) | Value::List(_) => None,
    }
}

fn is(node: &Node<'_>, key: &str) -> bool {
    matches!(&node.value, Value::Text(text) if text == key)
}

/// Names and their values, each name once.
pub(super) fn entries<'n, 't>(
    node: &'n Node<'t>,
    what: &str,
    problems: &mut Problems,
) -> Vec<(&'n str, At, &'n Node<'t>)> {
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
                format!("{} is already there in line {line}", quote(name)),
            );
        }
    }
    entries
}

/// A list with something in it and nothing twice.
pub(super) fn list<'t, T: Eq + Hash + Clone>(
    node: &Node<'t>,
    what: &str,
    problems: &mut Problems,
    read: impl FnMut(&Node<'t>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    list_by(node, what, problems, read, T::clone)
}

/// A list with something in it and no `key` twice.
pub(super) fn list_by<'t, T, K: Eq + Hash>(
    node: &Node<'t>,
    what: &str,
    problems: &mut Problems,
    mut read: impl FnMut(&Node<'t>, &mut Problems) -> Option<T>,
    key: impl Fn(&T) -> K,
) -> Option<Vec<T>> {
    let Value::List(nodes) = &node.value else {
        let found = describe(node);
        problems.report(
            node.at,
            format!("{found} is no list; expected a list of {what}, `[…]`"),
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

/// A scalar's text.
pub(super) fn text<'n>(node: &'n Node<'_>, problems: &mut Problems) -> Option<&'n str> {
    if let Value::Text(text) = &node.value {
        return Some(text);
    }
    problems.report(
        node.at,
        format!(
            "{} is no text; expected one word or quoted text",
            describe(node)
        ),
    );
    None
}

/// Text with at least one character.
pub(super) fn filled<'n>(node: &'n Node<'_>, problems: &mut Problems) -> Option<&'n str> {
    let text = text(node, problems)?;
    if text.is_empty() {
        problems.report(node.at, "the text is empty");
        return None;
    }
    Some(text)
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    node: &Node<'_>,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let said = text(node, problems)?;
    let found = words.iter().find(|(word, _)| *word == said);
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

/// `true` or `false`.
pub(super) fn flag(node: &Node<'_>, problems: &mut Problems) -> Option<bool> {
    word(node, &[("true", true), ("false", false)], problems)
}

/// A number from 1, or the word for no limit.
pub(super) fn quota(node: &Node<'_>, problems: &mut Problems) -> Option<Quota> {
    let said = text(node, problems)?;
    match said.parse::<u32>().map(NonZeroU32::new) {
        _ if said == "unlimited" => Some(Quota::Unlimited),
        Ok(Some(most)) => Some(Quota::AtMost(most)),
        Ok(None) => {
            problems.report(
                node.at,
                "`0` would let nothing through; write `unlimited` for no limit, or take the grant away",
            );
            None
        }
        Err(_) => {
            problems.report(
                node.at,
                format!(
                    "{} is no limit; expected a number from 1, or `unlimited`",
                    quote(said)
                ),
            );
            None
        }
    }
}

/// A number from 1.
pub(super) fn count(node: &Node<'_>, problems: &mut Problems) -> Option<NonZeroU32> {
    let said = text(node, problems)?;
    let number = said.parse::<NonZeroU32>().ok();
    if number.is_none() {
        problems.report(
            node.at,
            format!("{} is no count; expected a number from 1", quote(said)),
        );
    }
    number
}

/// A port from 1.
pub(super) fn port(node: &Node<'_>, problems: &mut Problems) -> Option<u16> {
    let said = text(node, problems)?;
    let port = said.parse::<u16>().ok().filter(|port| *port != 0);
    if port.is_none() {
        problems.report(
            node.at,
            format!(
                "{} is no port; expected a number from 1 to 65535",
                quote(said)
            ),
        );
    }
    port
}

/// An IP address with a port.
pub(super) fn address(node: &Node<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let said = text(node, problems)?;
    let address = said.parse::<SocketAddr>().ok();
    if address.is_none() && said.contains('%') {
        problems.report(
            node.at,
            format!("{} is no address; expected the zone as the interface's number, which `ip link` shows first, such as `[fe80::1%2]:5432`", quote(said)),
        );
    } else if address.is_none() {
        problems.report(
            node.at,
            format!("{} is no address; expected an IP address with a port, such as `10.0.0.1:5432` or `[::1]:5432`", quote(said)),
        );
    }
    address
}

/// Between `0%` and `100%`, as a share of one.
pub(super) fn percent(node: &Node<'_>, problems: &mut Problems) -> Option<f64> {
    let said = text(node, problems)?;
    let percent = said
        .strip_suffix('%')
        .and_then(|number| number.parse::<u8>().ok());
    let percent = percent.filter(|percent| *percent <= 100);
    if percent.is_none() {
        problems.report(
            node.at,
            format!("{} is no share; expected `0%` to `100%`", quote(said)),
        );
    }
    percent.map(|percent| f64::from(percent) / 100.0)
}

/// So many in a second, a minute or an hour.
pub(super) fn rate(node: &Node<'_>, problems: &mut Problems) -> Option<Rate> {
    let said = text(node, problems)?;
    let rate = said.split_once('/').and_then(|(events, per)| {
        let seconds = match per {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            _ => return None,
        };
        Some(Rate {
            events: events.parse().ok()?,
            per: Duration::from_secs(seconds),
        })
    });
    if rate.is_none() {
        problems.report(
            node.at,
            format!("{} is no rate; expected one such as `5/s`, `300/m` or `1000/h`; leave `rate` out for no limit", quote(said)),
        );
    }
    rate
}

/// What is written there, for a message.
pub(super) fn describe(node: &Node<'_>) -> Cow<'static, str> {
    match &node.value {
        Value::Nothing => "nothing".into(),
        Value::Text(text) => quote(text).into(),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
    }
}

/// A text of the file between backticks, made safe for a terminal and not too long.
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
