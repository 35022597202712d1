//! Reads a YAML text into a tree in which every value has its line and column.
//!
//! The tree is made directly from the parser's events. A serde deserializer with positions takes
//! three times as long at 100,000 groups and stops at the first wrong key.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::position::TextPosition;

/// Largest number of values in one file, including keys and the values of aliases: about ten for
/// each group and six for each client.
const MOST_VALUES: usize = 16_000_000;
/// Largest number of values and of bytes of text that aliases may repeat, so that a few lines
/// cannot exhaust the memory.
const MOST_REPEATED: usize = 4_000_000;
/// Largest depth of nesting; the policy itself has a depth of 6.
pub(crate) const DEEPEST: usize = 16;

/// One value with the position of its beginning.
#[derive(Debug, Clone)]
pub struct YamlNode<'t> {
    /// Position of its beginning.
    pub at: TextPosition,
    /// The value.
    pub value: YamlValue<'t>,
}

/// Value as it is written. A scalar has the type that YAML 1.2 gives it (core schema, 10.3); a key
/// is text.
#[derive(Debug, Clone)]
pub enum YamlValue<'t> {
    /// No text, `~` or `null`.
    Nothing,
    /// `true` or `false`, as written.
    Flag(Cow<'t, str>),
    /// A number, as written.
    Number(Cow<'t, str>),
    /// Any other scalar, and every scalar in quotes.
    Text(Cow<'t, str>),
    /// A sequence.
    List(Vec<YamlNode<'t>>),
    /// A mapping: each key with its value, in the order of the text.
    Map(Vec<(YamlNode<'t>, YamlNode<'t>)>),
}

/// Reads a piece of a file's text that follows `lines_before` lines. `Ok(None)` if it has no value.
pub(crate) fn tree(text: &str, lines_before: usize) -> Result<Option<YamlNode<'_>>, YamlRefusal> {
    let mut tree = TreeBuilder::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                let at = TextPosition::new(lines_before + span.start.line(), span.start.col() + 1);
                tree.take(event, at)?;
            }
            Err(error) => {
                let marker = error.marker();
                let at = TextPosition::new(lines_before + marker.line(), marker.col() + 1);
                return Err(YamlRefusal::new(
                    at,
                    format!("this is not YAML: {}", error.info()),
                ));
            }
        }
    }
    Ok(tree.root)
}

/// Reason why a text is not read, with the position that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlRefusal {
    /// Position in the text.
    pub at: TextPosition,
    /// Description.
    pub message: String,
}

impl YamlRefusal {
    fn new(at: TextPosition, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { at, message }
    }
}

/// List or mapping whose end has not been reached.
#[derive(Debug)]
struct OpenCollection<'t> {
    at: TextPosition,
    anchor: usize,
    children: OpenChildren<'t>,
}

#[derive(Debug)]
enum OpenChildren<'t> {
    List(Vec<YamlNode<'t>>),
    Map(Vec<(YamlNode<'t>, YamlNode<'t>)>, Option<YamlNode<'t>>),
}

#[derive(Debug, Default)]
struct TreeBuilder<'t> {
    open: Vec<OpenCollection<'t>>,
    anchors: HashMap<usize, YamlNode<'t>>,
    values: usize,
    repeated: usize,
    root: Option<YamlNode<'t>>,
}

impl<'t> TreeBuilder<'t> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "which events exist is up to features"
    )]
    fn take(&mut self, event: Event<'t>, at: TextPosition) -> Result<(), YamlRefusal> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                untagged(tag.as_deref(), at)?;
                let is_key = self.is_at_key() && !is_nothing(&text);
                let value = if style == ScalarStyle::Plain && !is_key {
                    plain(text)
                } else {
                    YamlValue::Text(text)
                };
                self.add(YamlNode { at, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                untagged(tag.as_deref(), at)?;
                self.begin(OpenCollection {
                    at,
                    anchor,
                    children: OpenChildren::List(Vec::new()),
                })
            }
            Event::MappingStart(_, anchor, tag) => {
                untagged(tag.as_deref(), at)?;
                self.begin(OpenCollection {
                    at,
                    anchor,
                    children: OpenChildren::Map(Vec::new(), None),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(OpenCollection {
                    at,
                    anchor,
                    children,
                }) = self.open.pop()
                else {
                    return Ok(());
                };
                let value = match children {
                    OpenChildren::List(list) => YamlValue::List(list),
                    OpenChildren::Map(map, _) => YamlValue::Map(map),
                };
                self.add(YamlNode { at, value }, anchor)
            }
            Event::Alias(anchor) => self.repeat(anchor, at),
            Event::DocumentStart(..) if self.root.is_some() => Err(YamlRefusal::new(
                at,
                "a second document begins here; a policy is one document",
            )),
            _ => Ok(()),
        }
    }

    /// Returns true if the next value is a key of a mapping.
    fn is_at_key(&self) -> bool {
        let open = self.open.last().map(|open| &open.children);
        matches!(open, Some(OpenChildren::Map(_, None)))
    }

    fn begin(&mut self, open: OpenCollection<'t>) -> Result<(), YamlRefusal> {
        if self.open.len() >= DEEPEST {
            return Err(YamlRefusal::new(
                open.at,
                format!("more than {DEEPEST} levels of nesting"),
            ));
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, node: YamlNode<'t>, anchor: usize) -> Result<(), YamlRefusal> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(YamlRefusal::new(
                node.at,
                format!("the file has more than {MOST_VALUES} values"),
            ));
        }
        if anchor != 0 {
            self.count_repeated(&node, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.children) {
            None => self.root = Some(node),
            Some(OpenChildren::List(list)) => list.push(node),
            Some(OpenChildren::Map(map, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => map.push((key, node)),
            },
        }
        Ok(())
    }

    fn repeat(&mut self, anchor: usize, at: TextPosition) -> Result<(), YamlRefusal> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(YamlRefusal::new(at, "the alias refers to itself"));
        };
        self.count_repeated(&node, at)?;
        self.add(node, 0)
    }

    fn count_repeated(&mut self, node: &YamlNode<'_>, at: TextPosition) -> Result<(), YamlRefusal> {
        self.repeated = self.repeated.saturating_add(weight(node));
        if self.repeated > MOST_REPEATED {
            return Err(YamlRefusal::new(
                at,
                "anchors and aliases expand to too many values",
            ));
        }
        Ok(())
    }
}

/// Returns the value of a scalar without quotes.
pub fn plain<'t>(text: impl Into<Cow<'t, str>>) -> YamlValue<'t> {
    let text = text.into();
    if is_nothing(&text) {
        YamlValue::Nothing
    } else if matches!(
        &*text,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE"
    ) {
        YamlValue::Flag(text)
    } else if is_number(&text) {
        YamlValue::Number(text)
    } else {
        YamlValue::Text(text)
    }
}

/// Returns true if a scalar without quotes means no value.
pub fn is_nothing(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn is_number(text: &str) -> bool {
    let all = |digits: &str, is_digit: fn(char) -> bool| {
        !digits.is_empty() && digits.chars().all(is_digit)
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |c| c.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |c| c.is_digit(8));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => true,
        ".nan" | ".NaN" | ".NAN" => unsigned.len() == text.len(),
        _ => {
            // The floating-point numbers that Rust parses, without `inf` and `nan`.
            unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && all(unsigned, |c| {
                    c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+')
                })
                && unsigned.parse::<f64>().is_ok()
        }
    }
}

/// Converts a number to JSON; one that JSON cannot represent becomes the largest number.
fn number(text: &str) -> serde_json::Value {
    let in_base = |digits, base| i64::from_str_radix(digits, base).ok();
    let whole = if let Some(digits) = text.strip_prefix("0x") {
        in_base(digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        in_base(digits, 8)
    } else {
        in_base(text, 10)
    };
    let float = || text.parse::<f64>().ok().filter(|number| number.is_finite());
    whole.map_or_else(|| float().unwrap_or(f64::MAX).into(), Into::into)
}

impl YamlNode<'_> {
    /// Returns the position of the last of these keys, each in the mapping of the one before it.
    pub fn key_at(&self, path: &[&str]) -> Option<TextPosition> {
        let (mut node, mut at) = (self, None);
        for key in path {
            let YamlValue::Map(entries) = &node.value else {
                return None;
            };
            let found = entries.iter().find(|(name, _)| name.scalar() == Some(*key));
            let (name, value) = found?;
            (node, at) = (value, Some(name.at));
        }
        at
    }

    /// Returns the text of a scalar, without quotes; `None` for an absent value, a list or a
    /// mapping.
    pub fn scalar(&self) -> Option<&str> {
        match &self.value {
            YamlValue::Flag(text) | YamlValue::Number(text) | YamlValue::Text(text) => Some(text),
            YamlValue::Nothing | YamlValue::List(_) | YamlValue::Map(_) => None,
        }
    }
}

impl YamlValue<'_> {
    /// Converts the value to JSON, as editors see it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Nothing => serde_json::Value::Null,
            Self::Flag(text) => text.eq_ignore_ascii_case("true").into(),
            Self::Number(text) => number(text),
            Self::Text(text) => text.as_ref().into(),
            Self::List(list) => list.iter().map(|node| node.value.to_json()).collect(),
            Self::Map(map) => map
                .iter()
                .map(|(key, node)| {
                    let key = key.scalar().unwrap_or_default();
                    (key.to_owned(), node.value.to_json())
                })
                .collect(),
        }
    }
}

fn weight(node: &YamlNode<'_>) -> usize {
    1 + match &node.value {
        YamlValue::Nothing => 0,
        YamlValue::Flag(text) | YamlValue::Number(text) | YamlValue::Text(text) => text.len(),
        YamlValue::List(list) => list.iter().map(weight).sum(),
        YamlValue::Map(map) => map
            .iter()
            .map(|(key, value)| weight(key) + weight(value))
            .sum(),
    }
}

fn untagged(tag: Option<&Tag>, at: TextPosition) -> Result<(), YamlRefusal> {
    match tag {
        None => Ok(()),
        Some(tag) => Err(YamlRefusal::new(
            at,
            format!("unsupported tag `{}`", tag.original()),
        )),
    }
}
