//! Durations as the file writes them: `500ms`, `5s`, `10m`, `1h`, `2d`.

use std::time::Duration;

use super::problem::Problems;
use super::read::{quote, text};
use super::yaml::Node;

/// The longest duration: 100 years, so that no sum of two overflows.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

/// A duration of which there is always one.
pub(super) fn duration(node: &Node<'_>, problems: &mut Problems) -> Option<Duration> {
    let said = text(node, problems)?;
    match parse_duration(said) {
        Some(Duration::ZERO) => {
            problems.report(
                node.at,
                format!(
                    "{} is no time at all; expected a duration such as `5s`",
                    quote(said)
                ),
            );
            None
        }
        Some(duration) => Some(duration),
        None => {
            let extra = if said == "unlimited" {
                "; this one has to end"
            } else {
                ""
            };
            problems.report(
                node.at,
                format!("{} is no duration; expected one such as `500ms`, `5s`, `10m`, `1h` or `2d`{extra}", quote(said)),
            );
            None
        }
    }
}

/// A duration, or the word for none.
#[expect(
    clippy::option_option,
    reason = "a wrong text is not the same as no limit"
)]
pub(super) fn limit(node: &Node<'_>, problems: &mut Problems) -> Option<Option<Duration>> {
    let said = text(node, problems)?;
    if said == "unlimited" {
        return Some(None);
    }
    match parse_duration(said) {
        Some(Duration::ZERO) => {
            problems.report(
                node.at,
                format!(
                    "{} is no time at all; write `unlimited` for no limit",
                    quote(said)
                ),
            );
            None
        }
        Some(duration) => Some(Some(duration)),
        None => {
            problems.report(
                node.at,
                format!(
                    "{} is no duration; expected one such as `5s`, `10m` or `1h`, or `unlimited`",
                    quote(said)
                ),
            );
            None
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(60 * 60)?),
        "d" => Duration::from_secs(number.checked_mul(24 * 60 * 60)?),
        _ if text == "0" => Duration::ZERO,
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}
