//! Where in the text of a policy a grant goes.
//!
//! Each of these may be wrong about a layout it has never seen, and says so with `None` where it
//! notices. Where it does not, its caller does.

use std::ops::Range;

use crate::yaml::{self, FlowNode, FlowValue};

/// How far entries are indented where there is none to go by.
const INDENT: &str = "  ";

/// The text with a client added to `clients:`.
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

/// The text with a group added to a client's list of them.
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

/// A line that has the key that was looked for.
struct FoundKey {
    line: Range<usize>,
    value: usize,
}

impl FoundKey {
    /// The collection on the same line.
    fn flow(&self, text: &str) -> Option<FlowNode> {
        let line = &text[self.line.clone()];
        let blanks = line[self.value..].len() - line[self.value..].trim_start().len();
        yaml::flow(line, self.value + blanks)
    }
}

/// The one line in a part of the text that has this indent and this key.
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

/// The indented lines from here on, up to the last that has content, and their indent.
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

/// A `clients:` line without the nothing (`{}`, `null`, `~`) that stood behind it.
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

/// The text with a group at the end of the list that a grant has.
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
