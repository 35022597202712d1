//! Settings of a client: the groups that it may reach, and its limits.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::client_name::ClientName;
use super::duration::duration;
use super::fields::number::{positive, positive_pattern, quota};
use super::fields::{self, MappingFields, quote};
use super::format::{CLIENT, ScalarFormat, WAIT};
use super::problem::{ProblemList, TextPosition};
use super::yaml::{YamlNode, YamlValue};
use super::{Quota, SourceLine};

/// Units of time of a rate, each with its length in seconds.
const PER: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 60 * 60)];
/// Largest number of digits of the number of a rate.
const RATE_DIGITS: usize = 9;

pub(super) static RATE: ScalarFormat = ScalarFormat {
    name: "Rate",
    doc: "A rate such as `5/s`, `300/m` or `1000/h`.",
    schema: || {
        let (events, per) = (positive_pattern(RATE_DIGITS), PER.map(|(unit, _)| unit));
        json!({"type": "string", "pattern": format!("^{events}/({})$", per.join("|"))})
    },
};

/// Settings of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPolicy {
    /// Name in the client's certificate.
    pub name: ClientName,
    /// Names of the groups that the client may reach, sorted; never empty.
    pub groups: Vec<Arc<str>>,
    /// Upper bound of the client's open connections.
    pub max_connections: Quota,
    /// Treatment of further connections while [`ClientPolicy::max_connections`] are open.
    pub when_full: WhenFull,
    /// Upper bound of the client's rate of connections; `None` is without limit.
    pub rate: Option<RatePolicy>,
    /// Line of the client's name in the file that it was read from.
    pub line: SourceLine,
}

/// Treatment of a new connection of a client that has all of its connections open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The new connection is reset.
    Reset,
    /// The new connection waits until one of the others ends, at most for this time.
    Wait(Duration),
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("reset"),
            Self::Wait(limit) => write!(f, "wait {limit:?}"),
        }
    }
}

/// Number of events in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePolicy {
    /// Largest number of events in the period.
    pub events: NonZeroU32,
    /// Length of the period: one second, minute or hour.
    pub per: Duration,
}

impl ClientPolicy {
    /// Returns true if the client may reach the group with this name.
    pub fn is_granted(&self, group: &str) -> bool {
        self.groups
            .binary_search_by(|granted| granted.as_ref().cmp(group))
            .is_ok()
    }
}

/// Reads the client `name`. `group` returns a group's shared name, or reports that the group does
/// not exist. `None` means that a problem was reported.
pub(super) fn read(
    (name, at): (&str, TextPosition),
    node: &YamlNode<'_>,
    problems: &mut ProblemList,
    group: impl FnMut(&YamlNode<'_>, &mut ProblemList) -> Option<Arc<str>>,
) -> Option<ClientPolicy> {
    let client = ClientName::new(name);
    if let Err(error) = &client {
        problems.report(
            at,
            format!("{} is not a client's name: {error}", quote(name)),
        );
    }
    let fields = MappingFields::of(node, &CLIENT, problems)?;
    let mut groups = fields
        .need("groups", problems)
        .and_then(|node| fields::list(node, "groups", problems, group))
        .unwrap_or_default();
    groups.sort_unstable();
    let max_connections = fields.value("max_connections", problems, quota);
    let when_full = fields.value("when_full", problems, when_full);
    let is_unlimited =
        |node: &YamlNode<'_>| matches!(&node.value, YamlValue::Text(said) if said == "unlimited");
    if let (Some(node), WhenFull::Wait(_)) = (fields.get("when_full"), when_full)
        && fields.get("max_connections").is_none_or(is_unlimited)
    {
        problems.report(node.at, "`wait` needs a number in `max_connections`");
    }
    let rate = fields.or("rate", None, problems, |node, problems| {
        rate(node, problems).map(Some)
    });
    Some(ClientPolicy {
        name: client.ok()?,
        groups,
        max_connections,
        when_full,
        rate,
        line: SourceLine::of(at),
    })
}

/// Reads a rate: a number for each second, minute or hour. `None` means that a problem was
/// reported.
fn rate(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<RatePolicy> {
    let said = fields::text::scalar(node, problems)?;
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

fn when_full(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<WhenFull> {
    match &node.value {
        YamlValue::Map(_) => {
            let fields = MappingFields::of(node, &WAIT, problems)?;
            let wait = fields.need("wait", problems)?;
            duration(wait, problems).map(WhenFull::Wait)
        }
        YamlValue::Text(said) if said == "reset" => Some(WhenFull::Reset),
        YamlValue::Flag(_)
        | YamlValue::Number(_)
        | YamlValue::Text(_)
        | YamlValue::List(_)
        | YamlValue::Nothing => {
            let found = fields::describe(node);
            problems.report(
                node.at,
                format!("{found} is unknown; expected `reset` or `{{wait: 5s}}`"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_told, policy, with};
    use super::*;

    fn one(rules: &str) -> String {
        with(&format!(
            "groups: {{a: {{upstreams: ['10.0.0.1:1']}}}}\nclients: {{one: {{groups: [a], {rules}}}}}\n"
        ))
    }

    #[test]
    fn one_connection_too_many_is_reset_unless_the_client_may_wait() {
        for (rules, expected) in [
            ("max_connections: 2", WhenFull::Reset),
            ("when_full: reset", WhenFull::Reset),
            (
                "max_connections: 2, when_full: {wait: 500ms}",
                WhenFull::Wait(Duration::from_millis(500)),
            ),
        ] {
            let policy = policy(&one(rules));
            assert_eq!(policy.client("one").unwrap().when_full, expected, "{rules}");
        }
    }

    #[test]
    fn a_wait_that_cannot_be_is_told_with_its_place() {
        for (rules, message) in [
            (
                "max_connections: 2, when_full: wait",
                "6:61: `wait` is unknown; expected `reset` or `{wait: 5s}`",
            ),
            (
                "max_connections: 2, when_full: {wait: 0s}",
                "6:68: `0s` is zero; expected a duration such as `5s`",
            ),
            (
                "max_connections: 2, when_full: {}",
                "6:61: `wait` is missing in `when_full`",
            ),
            (
                "when_full: {wait: 5s}",
                "6:41: `wait` needs a number in `max_connections`",
            ),
        ] {
            assert_told(&one(rules), message);
        }
    }
}
