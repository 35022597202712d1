//! Places in the text of a policy where grants are added.
//!
//! The places come from the YAML parser, by the positions of its events. A layout can still be
//! misread; the caller, which parses the result, notices.

use std::ops::Range;

use crate::layout::{CollectionStyle, LayoutNode, LayoutValue, layout};
use crate::tree::is_nothing;

/// Indent of a new client if there is no other client to copy it from.
const INDENT: &str = "  ";

/// Words that a YAML reader may take for a boolean or null, in any case.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// Groups to be granted to one client.
#[derive(Debug)]
pub struct NewGrant<'g> {
    /// Name of the client.
    pub client: &'g str,
    /// Names of the groups.
    pub groups: Vec<&'g str>,
    /// The client is in the policy, and only the groups are new.
    pub is_known: bool,
}

impl NewGrant<'_> {
    fn entry(&self) -> String {
        format!("{}: {{groups: [{}]}}", quoted(self.client), self.list())
    }

    fn list(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(|group| quoted(group)).collect();
        groups.join(", ")
    }
}

/// Formats a name as YAML, in quotes if it could be read as something else.
fn quoted(name: &str) -> String {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_reserved = RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word));
    if starts && name.chars().all(is_plain) && !is_reserved {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Formats the section of a policy that makes the grants.
pub fn fragment(grants: &[NewGrant<'_>]) -> String {
    let entries = grants
        .iter()
        .map(|grant| format!("{INDENT}{}\n", grant.entry()));
    format!("clients:\n{}", entries.collect::<String>())
}

/// Returns the text with an empty `clients:` section at its end.
pub fn with_clients(text: &str) -> String {
    let newline = newline(text);
    let gap = if text.ends_with('\n') { "" } else { newline };
    format!("{text}{gap}clients:{newline}")
}

/// Returns the text with the grants added; `None` if its layout has no place for one of them.
pub fn edited(text: &str, grants: &[NewGrant<'_>]) -> Option<String> {
    let root = layout(text)?;
    let (_, section) = root.get("clients")?;
    let mut edits = Vec::new();
    let mut entries = Vec::new();
    for grant in grants {
        if grant.is_known {
            let (_, client) = section.get(grant.client)?;
            let (_, groups) = client.get("groups")?;
            edits.push(longer_list(text, groups, grant)?);
        } else {
            entries.push(grant.entry());
        }
    }
    if !entries.is_empty() {
        edits.extend(new_entries(text, section, &entries)?);
    }
    // The order of edits at the same place stays: a client's groups come before the next client.
    edits.sort_by_key(|edit| edit.bytes.start);
    let (mut new, mut done) = (String::with_capacity(text.len()), 0);
    for edit in edits {
        new.push_str(text.get(done..edit.bytes.start)?);
        new.push_str(&edit.new);
        done = edit.bytes.end;
    }
    new.push_str(text.get(done..)?);
    Some(new)
}

/// Replacement of a range of a text; an insertion if the range is empty.
#[derive(Debug)]
struct TextEdit {
    bytes: Range<usize>,
    new: String,
}

impl TextEdit {
    fn insert(at: usize, new: String) -> Self {
        Self { bytes: at..at, new }
    }

    /// Adds lines below the one with this byte.
    fn add_lines(text: &str, byte: usize, lines: impl Iterator<Item = String>) -> Self {
        let newline = newline(text);
        let mut lines = lines.collect::<Vec<_>>().join(newline);
        if let Some(end) = text[byte..].find('\n') {
            lines.push_str(newline);
            Self::insert(byte + end + 1, lines)
        } else {
            lines.insert_str(0, newline);
            Self::insert(text.len(), lines)
        }
    }
}

/// Adds groups to the list of a client's groups.
fn longer_list(text: &str, groups: &LayoutNode<'_>, grant: &NewGrant<'_>) -> Option<TextEdit> {
    let LayoutValue::List(style, items) = &groups.value else {
        return None;
    };
    let last = items.last()?;
    if *style == CollectionStyle::Flow {
        let addition = format!(", {}", grant.list());
        return Some(TextEdit::insert(last.end(), addition));
    }
    let prefix = line_start(text, last.bytes.start);
    if prefix.trim() != "-" {
        return None;
    }
    let lines = grant
        .groups
        .iter()
        .map(|group| format!("{prefix}{}", quoted(group)));
    Some(TextEdit::add_lines(text, last.end(), lines))
}

/// Adds entries to the section of clients.
fn new_entries(text: &str, section: &LayoutNode<'_>, entries: &[String]) -> Option<Vec<TextEdit>> {
    let last = match &section.value {
        LayoutValue::Map(style, known) => known.last().map(|last| (*style, last)),
        LayoutValue::Plain(_)
        | LayoutValue::Text(_)
        | LayoutValue::List(..)
        | LayoutValue::Alias => None,
    };
    match last {
        Some((CollectionStyle::Block, (name, _))) => {
            let indent = line_start(text, name.bytes.start);
            let lines = entries.iter().map(|entry| format!("{indent}{entry}"));
            let edit = TextEdit::add_lines(text, section.end(), lines);
            is_blank(indent).then(|| vec![edit])
        }
        Some((CollectionStyle::Flow, (_, value))) => {
            let addition = format!(", {}", entries.join(", "));
            Some(vec![TextEdit::insert(value.end(), addition)])
        }
        None => first_entries(text, section, entries),
    }
}

/// Adds entries to a section without any: its `{}` or `null` goes, and what follows on the line
/// stays.
fn first_entries(
    text: &str,
    section: &LayoutNode<'_>,
    entries: &[String],
) -> Option<Vec<TextEdit>> {
    let said = &text[section.bytes.clone()];
    let is_empty = match &section.value {
        LayoutValue::Plain(said) => is_nothing(said),
        LayoutValue::Map(..) => is_blank(said.trim_start_matches('{').trim_end_matches('}')),
        LayoutValue::Text(_) | LayoutValue::List(..) | LayoutValue::Alias => false,
    };
    if !is_empty {
        return None;
    }
    let end = section.bytes.end;
    let mut edits = Vec::new();
    if !said.is_empty() {
        let before = text[..section.bytes.start].trim_end_matches(' ');
        edits.push(TextEdit {
            bytes: before.len()..end,
            new: String::new(),
        });
    }
    let lines = entries.iter().map(|entry| format!("{INDENT}{entry}"));
    edits.push(TextEdit::add_lines(text, end, lines));
    Some(edits)
}

/// Returns true if a text is empty or has blanks only.
fn is_blank(text: &str) -> bool {
    text.trim_matches(' ').is_empty()
}

/// Returns what is on the line before a byte.
fn line_start(text: &str, byte: usize) -> &str {
    let start = text[..byte].rfind('\n').map_or(0, |end| end + 1);
    &text[start..byte]
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}
