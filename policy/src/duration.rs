//! Durations in the form of the policy's file: `500ms`, `5s`, `10m`, `1h`, `2d`.

use std::time::Duration;

use serde_json::json;
use thiserror::Error;

use crate::fields::number::{positive, positive_pattern};
use crate::fields::quote;
use crate::fields::text::scalar;
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Units, each with its length in milliseconds and the largest number of digits before it. So no
/// duration is longer than 32 years, and a sum of two does not overflow.
const UNITS: [(&str, u64, usize); 5] = [
    ("ms", 1, 12),
    ("s", 1_000, 9),
    ("m", 60 * 1_000, 7),
    ("h", 60 * 60 * 1_000, 5),
    ("d", 24 * 60 * 60 * 1_000, 4),
];

pub(crate) static DURATION: ScalarFormat = ScalarFormat {
    name: "Duration",
    types: &["duration"],
    doc: "A duration such as `500ms`, `5s`, `10m`, `1h` or `2d`.",
    schema: || json!({"type": "string", "pattern": format!("^({})$", pattern())}),
};

pub(crate) static DURATION_LIMIT: ScalarFormat = ScalarFormat {
    name: "DurationLimit",
    types: &["duration", "`unlimited`"],
    doc: "A duration such as `500ms`, `5s`, `10m`, `1h` or `2d`, or `unlimited`.",
    schema: || json!({"type": "string", "pattern": format!("^({}|unlimited)$", pattern())}),
};

fn pattern() -> String {
    let units = UNITS.map(|(unit, _, digits)| positive_pattern(digits) + unit);
    units.join("|")
}

/// Result of parsing the text of a duration.
enum ParsedDuration {
    Duration(Duration),
    Zero,
    /// More digits than are allowed before the unit: the unit, and the allowed number of digits.
    TooLong(&'static str, usize),
    Other,
}

/// Reason why a text is not a duration, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DurationError(String);

/// Parses a duration in the form of the policy's file; it is not zero.
///
/// # Errors
///
/// The text is not of this form, is zero, or is longer than 32 years.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(policy::parse_duration("14d"), Ok(Duration::from_hours(14 * 24)));
/// let error = policy::parse_duration("14").expect_err("it has no unit");
/// assert!(error.to_string().starts_with("`14` is not a duration; expected one such as `500ms`"));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let said = quote(text);
    Err(DurationError(match parse(text) {
        ParsedDuration::Duration(duration) => return Ok(duration),
        ParsedDuration::Zero => {
            format!("{said} is zero; expected a duration such as `5s`")
        }
        ParsedDuration::TooLong(unit, digits) => too_long(&said, unit, digits),
        ParsedDuration::Other => {
            let extra = match text {
                "unlimited" => "; `unlimited` is not possible here",
                _ => "",
            };
            format!(
                "{said} is not a duration; expected one such as `500ms`, `5s`, `10m`, `1h` or `2d`{extra}"
            )
        }
    }))
}

/// Reads a duration that must have an end: neither zero nor `unlimited`. `None` means that a
/// problem was reported.
pub(crate) fn duration(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Duration> {
    match parse_duration(scalar(node, problems)?) {
        Ok(duration) => Some(duration),
        Err(error) => {
            problems.report(node.at, error.to_string());
            None
        }
    }
}

/// Reads a duration or `unlimited`, which is `Some(None)`. `None` means that a problem was
/// reported.
#[expect(
    clippy::option_option,
    reason = "a wrong text is not the same as no limit"
)]
pub(crate) fn limit(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Option<Duration>> {
    let text = scalar(node, problems)?;
    if text == "unlimited" {
        return Some(None);
    }
    let said = quote(text);
    let message = match parse(text) {
        ParsedDuration::Duration(duration) => return Some(Some(duration)),
        ParsedDuration::Zero => format!("{said} is zero; write `unlimited` for no limit"),
        ParsedDuration::TooLong(unit, digits) => too_long(&said, unit, digits),
        ParsedDuration::Other => format!(
            "{said} is not a duration; expected one such as `5s`, `10m` or `1h`, or `unlimited`"
        ),
    };
    problems.report(node.at, message);
    None
}

fn too_long(said: &str, unit: &str, digits: usize) -> String {
    format!("{said} is too long; expected at most {digits} digits before `{unit}`")
}

fn parse(text: &str) -> ParsedDuration {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let known = UNITS.iter().find(|(known, ..)| *known == unit);
    if !number.is_empty() && number.bytes().all(|digit| digit == b'0') {
        return match known {
            Some(_) => ParsedDuration::Zero,
            None if text == "0" => ParsedDuration::Zero,
            None => ParsedDuration::Other,
        };
    }
    let Some((unit, milliseconds, most)) = known else {
        return ParsedDuration::Other;
    };
    match positive(number, *most) {
        Some(number) => ParsedDuration::Duration(Duration::from_millis(number * milliseconds)),
        None if digits > *most => ParsedDuration::TooLong(unit, *most),
        None => ParsedDuration::Other,
    }
}
