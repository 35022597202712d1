//! Reads texts, names, paths and bytes.

use std::fmt::Write as _;

use serde_json::json;

use crate::client_name::{INVISIBLE, LONGEST_NAME};
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::{YamlNode, YamlValue};
use policy_yaml::{describe, quote};

pub(crate) static TEXT: ScalarFormat = ScalarFormat {
    name: "Text",
    types: &["text"],
    doc: "A text that is not empty.",
    schema: || json!({"type": "string", "minLength": 1}),
};

pub(crate) static PATH: ScalarFormat = ScalarFormat {
    name: "Path",
    types: &["path"],
    doc: "The path of a file. A relative path starts at the policy's directory.",
    schema: || json!({"type": "string", "minLength": 1}),
};

pub(crate) static NAME: ScalarFormat = ScalarFormat {
    name: "Name",
    types: &["name"],
    doc: "A name: 1 to 64 visible characters without whitespace at either end.",
    schema: || {
        // Implementations of regular expressions disagree on characters beyond U+FFFF.
        let mut invisible = String::from("\\u0000-\\u001f\\u007f-\\u009f");
        for range in INVISIBLE.iter().filter(|range| *range.end() <= '\u{ffff}') {
            for (end, before) in [(range.start(), ""), (range.end(), "-")] {
                write!(invisible, "{before}\\u{:04x}", u32::from(*end)).expect("a text takes all");
            }
        }
        let outer = format!("[^\\s{invisible}]");
        json!({
            "type": "string",
            "maxLength": LONGEST_NAME,
            "pattern": format!("^{outer}([^{invisible}]*{outer})?$"),
        })
    },
};

pub(crate) static BYTES: ScalarFormat = ScalarFormat {
    name: "Bytes",
    types: &["text"],
    doc: "Bytes, one for each character up to `\"\\xff\"`.",
    schema: || json!({"type": "string", "pattern": "^[\\u0000-\\u00ff]*$"}),
};

pub(crate) static FILLED_BYTES: ScalarFormat = ScalarFormat {
    name: "FilledBytes",
    types: &["text"],
    doc: "At least one byte, one for each character up to `\"\\xff\"`.",
    schema: || json!({"type": "string", "pattern": "^[\\u0000-\\u00ff]+$"}),
};

/// Returns a scalar as it is written, whatever type it has in YAML. `None` means that a problem was
/// reported.
pub(crate) fn scalar<'n>(node: &'n YamlNode<'_>, problems: &mut ProblemList) -> Option<&'n str> {
    let scalar = node.scalar();
    if scalar.is_none() {
        let found = describe(node);
        problems.report(
            node.at,
            format!("{found} is not text; expected one word or quoted text"),
        );
    }
    scalar
}

/// Reads a text. A number or a boolean of YAML must be in quotes, so that every reader of the file
/// finds the same value. `None` means that a problem was reported.
pub(crate) fn text<'n>(node: &'n YamlNode<'_>, problems: &mut ProblemList) -> Option<&'n str> {
    let said = scalar(node, problems)?;
    let kind = match node.value {
        YamlValue::Number(_) => "number",
        YamlValue::Flag(_) => "boolean",
        YamlValue::Nothing | YamlValue::Text(_) | YamlValue::List(_) | YamlValue::Map(_) => {
            return Some(said);
        }
    };
    let said = quote(said);
    problems.report(
        node.at,
        format!("{said} is a {kind} in YAML; expected text, so put it in quotes"),
    );
    None
}

/// Reads a text with at least one character. `None` means that a problem was reported.
pub(crate) fn filled<'n>(node: &'n YamlNode<'_>, problems: &mut ProblemList) -> Option<&'n str> {
    let text = text(node, problems)?;
    if text.is_empty() {
        problems.report(node.at, "the text is empty");
        return None;
    }
    Some(text)
}

/// Reads bytes, one for each character up to U+00FF, so that `"\xd2"` is the byte 0xd2. `None`
/// means that a problem was reported.
pub(crate) fn bytes(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Vec<u8>> {
    let said = text(node, problems)?;
    let bytes: Result<Vec<u8>, _> = said.chars().map(u8::try_from).collect();
    if bytes.is_err() {
        problems.report(
            node.at,
            "a character is not a single byte; expected characters up to `\\xff`, others as their bytes",
        );
    }
    bytes.ok()
}
