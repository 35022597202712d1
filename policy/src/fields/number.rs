//! Reads numbers, percentages and booleans.

use std::num::NonZeroU32;

use serde_json::json;

use super::text::scalar;
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use crate::quota::Quota;
use policy_yaml::quote;
use policy_yaml::{YamlNode, YamlValue};

/// Version of the file's format.
const VERSION_NUMBER: u32 = 1;

pub(crate) static VERSION: ScalarFormat = ScalarFormat {
    name: "Version",
    types: &["`1`"],
    doc: "The version of this format.",
    schema: || json!({"type": "integer", "const": VERSION_NUMBER}),
};

pub(crate) static COUNT: ScalarFormat = ScalarFormat {
    name: "Count",
    types: &["number"],
    doc: "A number from 1.",
    schema: || json!({"type": "integer", "minimum": 1, "maximum": u32::MAX}),
};

pub(crate) static QUOTA: ScalarFormat = ScalarFormat {
    name: "Quota",
    types: &["limit"],
    doc: "A number from 1, or `unlimited`.",
    schema: || {
        json!({"anyOf": [
            {"type": "integer", "minimum": 1, "maximum": u32::MAX},
            {"const": "unlimited"},
        ]})
    },
};

pub(crate) static PORT: ScalarFormat = ScalarFormat {
    name: "Port",
    types: &["port"],
    doc: "A number from 1 to 65535.",
    schema: || json!({"type": "integer", "minimum": 1, "maximum": u16::MAX}),
};

pub(crate) static FLAG: ScalarFormat = ScalarFormat {
    name: "Flag",
    types: &["`true`", "`false`"],
    doc: "`true` or `false`.",
    schema: || json!({"type": "boolean"}),
};

pub(crate) static PERCENT: ScalarFormat = ScalarFormat {
    name: "Percent",
    types: &["share"],
    doc: "A share from `0%` to `100%`.",
    schema: || json!({"type": "string", "pattern": "^(100|[1-9]?[0-9])%$"}),
};

/// Checks the version of the file's format. `None` means that a problem was reported.
pub(crate) fn version(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<()> {
    let said = scalar(node, problems)?;
    let is_known = number(node) == Some(VERSION_NUMBER);
    if !is_known {
        let (said, hint) = (quote(said), unquoted(node));
        problems.report(
            node.at,
            format!("{said} is not a version of this file; expected `{VERSION_NUMBER}`{hint}"),
        );
    }
    is_known.then_some(())
}

/// Reads a number from 1. `None` means that a problem was reported.
pub(crate) fn count(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<NonZeroU32> {
    let said = scalar(node, problems)?;
    let count = number(node).and_then(NonZeroU32::new);
    if count.is_none() {
        let (said, hint) = (quote(said), unquoted(node));
        problems.report(
            node.at,
            format!("{said} is not a count; expected a number from 1{hint}"),
        );
    }
    count
}

/// Reads a number from 1, or `unlimited`. `None` means that a problem was reported.
pub(crate) fn quota(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Quota> {
    let said = scalar(node, problems)?;
    if said == "unlimited" {
        return Some(Quota::Unlimited);
    }
    match number(node).map(NonZeroU32::new) {
        Some(Some(most)) => Some(Quota::AtMost(most)),
        Some(None) => {
            problems.report(
                node.at,
                "`0` would allow nothing; write `unlimited` for no limit, or remove the grant",
            );
            None
        }
        None => {
            let (said, hint) = (quote(said), unquoted(node));
            problems.report(
                node.at,
                format!("{said} is not a limit; expected a number from 1, or `unlimited`{hint}"),
            );
            None
        }
    }
}

/// Reads a port from 1. `None` means that a problem was reported.
pub(crate) fn port(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<u16> {
    let said = scalar(node, problems)?;
    let port = number(node).and_then(|port| u16::try_from(port).ok());
    let port = port.filter(|port| *port != 0);
    if port.is_none() {
        let (said, hint) = (quote(said), unquoted(node));
        problems.report(
            node.at,
            format!("{said} is not a port; expected a number from 1 to 65535{hint}"),
        );
    }
    port
}

/// Returns a number that is written in plain digits. Other notations mean different numbers to
/// different readers: `010` is 8 in YAML 1.1.
pub(super) fn number(node: &YamlNode<'_>) -> Option<u32> {
    match &node.value {
        YamlValue::Number(text) => plain_digits(text),
        YamlValue::Nothing
        | YamlValue::Flag(_)
        | YamlValue::Text(_)
        | YamlValue::List(_)
        | YamlValue::Map(_) => None,
    }
}

fn plain_digits(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if is_plain || text == "0" {
        text.parse().ok()
    } else {
        None
    }
}

/// Returns a hint for a number that is text, or that is not written in plain digits; else an empty
/// text.
pub(super) fn unquoted(node: &YamlNode<'_>) -> &'static str {
    match &node.value {
        YamlValue::Text(text) if plain_digits(text).is_some() => ", without quotes",
        YamlValue::Number(text) if plain_digits(text).is_none() && !text.starts_with('-') => {
            ", in plain digits"
        }
        YamlValue::Number(_) | YamlValue::Text(_) => "",
        YamlValue::Nothing | YamlValue::Flag(_) | YamlValue::List(_) | YamlValue::Map(_) => "",
    }
}

/// Reads `true` or `false`. `None` means that a problem was reported.
pub(crate) fn flag(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<bool> {
    if let YamlValue::Flag(said) = &node.value {
        return Some(said.eq_ignore_ascii_case("true"));
    }
    let said = scalar(node, problems)?;
    let hint = match said.to_ascii_lowercase().as_str() {
        "true" | "false" => ", without quotes",
        "yes" | "on" | "y" => "; did you mean `true`?",
        "no" | "off" | "n" => "; did you mean `false`?",
        _ => "",
    };
    let said = quote(said);
    problems.report(
        node.at,
        format!("{said} is unknown; expected `true` or `false`{hint}"),
    );
    None
}

/// Reads a percentage from `0%` to `100%` and returns it as a share from 0 to 1. `None` means that
/// a problem was reported.
pub(crate) fn percent(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<f64> {
    let said = scalar(node, problems)?;
    let percent = said.strip_suffix('%').and_then(plain_digits);
    let percent = percent.filter(|percent| *percent <= 100);
    if percent.is_none() {
        let said = quote(said);
        problems.report(
            node.at,
            format!("{said} is not a percentage; expected `0%` to `100%`"),
        );
    }
    percent.map(|percent| f64::from(percent) / 100.0)
}

/// Parses a number from 1 in plain digits, at most `digits` of them.
pub(crate) fn positive(text: &str, digits: usize) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    (is_plain && text.len() <= digits).then(|| text.parse().ok())?
}

/// Returns the regular expression of the numbers that [`positive`] accepts.
pub(crate) fn positive_pattern(digits: usize) -> String {
    format!("[1-9][0-9]{{0,{}}}", digits - 1)
}
