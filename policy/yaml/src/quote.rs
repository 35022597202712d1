//! Values as messages show them.

use std::borrow::Cow;

use crate::tree::{YamlNode, YamlValue};

/// Largest number of characters of the file's text that a message quotes.
const LONGEST_QUOTE: usize = 60;

/// Describes a value for a message: the quoted scalar, or the kind of value.
pub fn describe(node: &YamlNode<'_>) -> Cow<'static, str> {
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
pub fn quote(text: &str) -> String {
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
