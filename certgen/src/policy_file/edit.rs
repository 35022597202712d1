//! Insertion of a grant into the text of a policy.
//!
//! Each function may misread a layout that it does not know. It returns `None` if it notices;
//! otherwise the caller, which parses the result, does.

use std::ops::Range;

use crate::yaml::{self, FlowNode, FlowValue};

/// Indent of a new entry if there is no other entry to copy it from.
const INDENT: &str = "  ";

/// Returns the text with a client added to `clients:`.
pub(super) fn add_client(text: &str, client: &str, group: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let entry = super::entry(client, group);
    let Some(clients) = find(text, 0..text.len(), "", "clients") else {
        let gap = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            newline
        };
        return format!("{text}{gap}clients:{newline}{INDENT}{entry}{newline}");
    };
    if let Some(FlowNode {
        shape: FlowValue::Mapping(entries),
        ..
    }) = clients.flow(text)
        && let Some((_, last)) = entries.last()
    {
        return insert(
            text,
            clients.line.start + last.span.end,
            &format!(", {entry}"),
        );
    }
    let (block, indent) = children(text, clients.line.end);
    let indent = if indent.is_empty() { INDENT } else { indent };
    let mut edited = text[..clients.line.start].to_owned();
    edited.push_str(&clear(&text[clients.line], clients.value));
    edited.push_str(&text[block.clone()]);
    let tail = &text[block.end..];
    let (gap, close) = if edited.ends_with('\n') {
        ("", newline)
    } else {
        (newline, "")
    };
    format!("{edited}{gap}{indent}{entry}{close}{tail}")
}

/// Returns the text with a group added to the list of a client's groups.
pub(super) fn add_group(text: &str, client: &str, group: &str) -> Option<String> {
    let clients = find(text, 0..text.len(), "", "clients")?;
    if let Some(FlowNode {
        shape: FlowValue::Mapping(entries),
        ..
    }) = clients.flow(text)
    {
        let (_, grant) = entries.into_iter().find(|(name, _)| name == client)?;
        return lengthen(text, clients.line.start, grant, group);
    }
    let (block, indent) = children(text, clients.line.end);
    let found = find(text, block, indent, client)?;
    let grant = found.flow(text)?;
    lengthen(text, found.line.start, grant, group)
}

/// A line that begins with the wanted key.
struct FoundKey {
    line: Range<usize>,
    value: usize,
}

impl FoundKey {
    /// Parses the flow collection that follows the key on the same line.
    fn flow(&self, text: &str) -> Option<FlowNode> {
        let line = &text[self.line.clone()];
        let blanks = line[self.value..].len() - line[self.value..].trim_start().len();
        yaml::flow(line, self.value + blanks)
    }
}

/// Finds the first line in a part of the text that has this indent and this key.
fn find(text: &str, part: Range<usize>, indent: &str, key: &str) -> Option<FoundKey> {
    lines(text, part).find_map(|line| {
        let content = text[line.clone()].strip_prefix(indent)?;
        if content.starts_with([' ', '\t']) {
            return None;
        }
        let (name, value) = yaml::key(content)?;
        (name == key).then_some(FoundKey {
            line,
            value: value + indent.len(),
        })
    })
}

/// Returns the range of indented lines from `start` up to the last with content, and the indent
/// of the first.
fn children(text: &str, start: usize) -> (Range<usize>, &str) {
    let mut end = start;
    let mut indent = "";
    for line in lines(text, start..text.len()) {
        let content = &text[line.clone()];
        if yaml::is_blank(content) {
            continue;
        }
        let depth = content.len() - content.trim_start_matches(' ').len();
        if depth == 0 {
            break;
        }
        if end == start {
            indent = &content[..depth];
        }
        end = line.end;
    }
    (start..end, indent)
}

fn lines(text: &str, part: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = part.start;
    text[part].split_inclusive('\n').map(move |line| {
        at += line.len();
        at - line.len()..at
    })
}

/// Removes an empty value (`{}`, `null`, `~`) from a `clients:` line.
fn clear(line: &str, value: usize) -> String {
    let (key, rest) = line.split_at(value);
    let content = rest.trim_start_matches([' ', '\t']);
    for nothing in ["null", "~"] {
        if let Some(rest) = content.strip_prefix(nothing) {
            return format!("{key}{rest}");
        }
    }
    match content.split_once('}') {
        Some((open, rest)) if open.trim_end() == "{" => format!("{key}{rest}"),
        _ => line.to_owned(),
    }
}

/// Returns the text with a group appended to the `groups` of one client's entry.
fn lengthen(text: &str, base: usize, grant: FlowNode, group: &str) -> Option<String> {
    let FlowValue::Mapping(entries) = grant.shape else {
        return None;
    };
    let (_, groups) = entries.into_iter().find(|(name, _)| name == "groups")?;
    let FlowValue::Sequence(items) = groups.shape else {
        return None;
    };
    let group = yaml::quoted(group);
    Some(match items.last() {
        Some(last) => insert(text, base + last.span.end, &format!(", {group}")),
        None => insert(text, base + groups.span.start + 1, &group),
    })
}

fn insert(text: &str, at: usize, addition: &str) -> String {
    let (head, tail) = text.split_at(at);
    format!("{head}{addition}{tail}")
}
