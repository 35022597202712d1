//! Rates in the form of the policy's file: `5/s`, `300/m` or `1000/h`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use crate::fields::number::{positive, positive_pattern};
use crate::fields::quote;
use crate::fields::text::scalar;
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Units of time of a rate, each with its length in seconds.
const PER: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 60 * 60)];
/// Largest number of digits of the number of a rate.
const RATE_DIGITS: usize = 9;

pub(crate) static RATE: ScalarFormat = ScalarFormat {
    name: "Rate",
    types: &["rate"],
    doc: "A rate such as `5/s`, `300/m` or `1000/h`.",
    schema: || {
        let (events, per) = (positive_pattern(RATE_DIGITS), PER.map(|(unit, _)| unit));
        json!({"type": "string", "pattern": format!("^{events}/({})$", per.join("|"))})
    },
};

/// Number of events in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePolicy {
    /// Largest number of events in the period.
    pub events: NonZeroU32,
    /// Length of the period: one second, minute or hour.
    pub per: Duration,
}

impl fmt::Display for RatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, per } = self;
        match per.as_secs() {
            1 => write!(f, "{events}/s"),
            60 => write!(f, "{events}/m"),
            3600 => write!(f, "{events}/h"),
            _ => write!(f, "{events} in {per:?}"),
        }
    }
}

/// Reads a rate: a number for each second, minute or hour. `None` means that a problem was
/// reported.
pub(crate) fn rate(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<RatePolicy> {
    let said = scalar(node, problems)?;
    let rate = said.split_once('/').and_then(|(events, unit)| {
        let (_, seconds) = PER.iter().find(|(known, _)| *known == unit)?;
        let events = u32::try_from(positive(events, RATE_DIGITS)?).ok()?;
        Some(RatePolicy {
            events: NonZeroU32::new(events)?,
            per: Duration::from_secs(*seconds),
        })
    });
    if rate.is_none() {
        problems.report(
            node.at,
            format!("{} is not a rate; expected one such as `5/s`, `300/m` or `1000/h`; leave `rate` out for no limit", quote(said)),
        );
    }
    rate
}
