//! Reads a YAML text into a tree in which every value has its bytes, to change the text in single
//! places.

use std::borrow::Cow;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

use crate::tree::DEEPEST;

/// Style of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionStyle {
    /// By indent, in lines of its own.
    Block,
    /// In brackets or braces.
    Flow,
}

impl From<StructureStyle> for CollectionStyle {
    fn from(style: StructureStyle) -> Self {
        match style {
            StructureStyle::Block => Self::Block,
            StructureStyle::Flow => Self::Flow,
        }
    }
}

/// Value with the bytes of the text that it was read from. A block collection has those of its
/// beginning only.
#[derive(Debug)]
pub struct LayoutNode<'t> {
    /// Range of the bytes.
    pub bytes: Range<usize>,
    /// The value.
    pub value: LayoutValue<'t>,
}

/// Value as it is laid out.
#[derive(Debug)]
pub enum LayoutValue<'t> {
    /// Scalar without quotes.
    Plain(Cow<'t, str>),
    /// Scalar in quotes, or of several lines.
    Text(Cow<'t, str>),
    /// Alias of a value elsewhere.
    Alias,
    /// Sequence with its items.
    List(CollectionStyle, Vec<LayoutNode<'t>>),
    /// Mapping with its keys and values, in the order of the text.
    Map(CollectionStyle, Vec<(LayoutNode<'t>, LayoutNode<'t>)>),
}

impl LayoutNode<'_> {
    /// Returns the key with this name and its value; `None` if this is not a mapping or has no such
    /// key.
    pub fn get(&self, name: &str) -> Option<&(Self, Self)> {
        let LayoutValue::Map(_, entries) = &self.value else {
            return None;
        };
        entries.iter().find(|(key, _)| {
            matches!(&key.value, LayoutValue::Plain(text) | LayoutValue::Text(text) if text == name)
        })
    }

    /// Returns the end of the last byte that belongs to the value.
    pub fn end(&self) -> usize {
        let mut node = self;
        loop {
            node = match &node.value {
                LayoutValue::List(CollectionStyle::Block, items) => match items.last() {
                    Some(last) => last,
                    None => return node.bytes.end,
                },
                LayoutValue::Map(CollectionStyle::Block, entries) => match entries.last() {
                    // An absent value has no bytes of its own.
                    Some((key, value)) if value.bytes.end < key.bytes.end => key,
                    Some((_, value)) => value,
                    None => return node.bytes.end,
                },
                LayoutValue::Plain(_)
                | LayoutValue::Text(_)
                | LayoutValue::Alias
                | LayoutValue::List(CollectionStyle::Flow, _)
                | LayoutValue::Map(CollectionStyle::Flow, _) => return node.bytes.end,
            };
        }
    }
}

/// Collection whose end has not been reached; the children of a mapping are keys and values in
/// turn.
#[derive(Debug)]
struct OpenLayout<'t> {
    start: usize,
    style: CollectionStyle,
    is_map: bool,
    children: Vec<LayoutNode<'t>>,
}

impl<'t> OpenLayout<'t> {
    fn close(self, end: usize) -> LayoutNode<'t> {
        let value = if self.is_map {
            let mut entries = Vec::with_capacity(self.children.len() / 2);
            let mut children = self.children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                entries.push((key, value));
            }
            LayoutValue::Map(self.style, entries)
        } else {
            LayoutValue::List(self.style, self.children)
        };
        LayoutNode {
            bytes: self.start..end,
            value,
        }
    }
}

/// Reads a document; `None` if it is empty, too deep or not YAML.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "which events exist is up to features"
)]
pub fn layout(text: &str) -> Option<LayoutNode<'_>> {
    let mut open: Vec<OpenLayout<'_>> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let bytes = span.byte_range()?;
        let (is_map, style) = match event {
            Event::MappingStart(style, ..) => (true, style.into()),
            Event::SequenceStart(style, ..) => (false, style.into()),
            event => {
                let node = match event {
                    Event::Scalar(said, ScalarStyle::Plain, ..) => LayoutNode {
                        bytes,
                        value: LayoutValue::Plain(said),
                    },
                    Event::Scalar(said, ..) => LayoutNode {
                        bytes,
                        value: LayoutValue::Text(said),
                    },
                    Event::Alias(_) => LayoutNode {
                        bytes,
                        value: LayoutValue::Alias,
                    },
                    Event::SequenceEnd | Event::MappingEnd => open.pop()?.close(bytes.end),
                    _ => continue,
                };
                match open.last_mut() {
                    Some(open) => open.children.push(node),
                    None => root = Some(node),
                }
                continue;
            }
        };
        if open.len() >= DEEPEST {
            return None;
        }
        open.push(OpenLayout {
            start: bytes.start,
            style,
            is_map,
            children: Vec::new(),
        });
    }
    root
}
