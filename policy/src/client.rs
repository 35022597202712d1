//! Settings of a client: the groups that it may reach, and its limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client_name::ClientName;
use crate::duration::duration;
use crate::fields::number::quota;
use crate::fields::{self, MappingFields, quote};
use crate::format::{CLIENT, WAIT};
use crate::problem::ProblemList;
use crate::quota::Quota;
use crate::rate::{RatePolicy, rate};
use crate::source_line::SourceLine;
use policy_yaml::{TextPosition, YamlNode, YamlValue};

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
pub(crate) fn read(
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
    use super::*;
    use crate::test_support::{assert_told, policy, with};

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
