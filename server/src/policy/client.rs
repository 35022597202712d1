//! A client: what it is granted and how much of it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::format::{CLIENT, Scalar};
use super::problem::{At, Problems};
use super::read::number::{positive, positive_pattern, quota};
use super::read::{self, Fields, quote};
use super::yaml::Node;
use super::{Line, Quota};
use crate::identity::ClientName;

/// The units of time that a rate may be in, each with its seconds.
const PER: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 60 * 60)];
/// The digits that the number of a rate may have.
const RATE_DIGITS: usize = 9;

pub(super) static RATE: Scalar = Scalar {
    name: "Rate",
    doc: "A rate such as `5/s`, `300/m` or `1000/h`.",
    schema: || {
        let (events, per) = (positive_pattern(RATE_DIGITS), PER.map(|(unit, _)| unit));
        json!({"type": "string", "pattern": format!("^{events}/({})$", per.join("|"))})
    },
};

/// One client's line of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The name in its certificate.
    pub name: ClientName,
    /// The groups that it may reach, sorted; never empty.
    pub groups: Vec<Arc<str>>,
    /// How many connections it may have open.
    pub max_connections: Quota,
    /// How often it may come; `None` is without limit.
    pub rate: Option<Rate>,
    /// Where its name is in the file that it was read from.
    pub line: Line,
}

/// So many events in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub events: NonZeroU32,
    /// In what time.
    pub per: Duration,
}

impl Client {
    /// Whether it may reach the group.
    pub fn is_granted(&self, group: &str) -> bool {
        self.groups
            .binary_search_by(|granted| granted.as_ref().cmp(group))
            .is_ok()
    }
}

/// Reads the client `name`; `group` finds a group's shared name, or reports that there is none.
pub(super) fn read(
    (name, at): (&str, At),
    node: &Node<'_>,
    problems: &mut Problems,
    group: impl FnMut(&Node<'_>, &mut Problems) -> Option<Arc<str>>,
) -> Option<Client> {
    let client = ClientName::new(name);
    if let Err(error) = &client {
        problems.report(at, format!("{} is no client's name: {error}", quote(name)));
    }
    let fields = Fields::of(node, &CLIENT, problems)?;
    let mut groups = fields
        .need("groups", problems)
        .and_then(|node| read::list(node, "groups", problems, group))
        .unwrap_or_default();
    groups.sort_unstable();
    let max_connections = fields.value("max_connections", problems, quota);
    let rate = fields.or("rate", None, problems, |node, problems| {
        rate(node, problems).map(Some)
    });
    Some(Client {
        name: client.ok()?,
        groups,
        max_connections,
        rate,
        line: Line::of(at),
    })
}

/// So many in a second, a minute or an hour.
fn rate(node: &Node<'_>, problems: &mut Problems) -> Option<Rate> {
    let said = read::text::scalar(node, problems)?;
    let rate = said.split_once('/').and_then(|(events, unit)| {
        let (_, seconds) = PER.iter().find(|(known, _)| *known == unit)?;
        let events = u32::try_from(positive(events, RATE_DIGITS)?).ok()?;
        Some(Rate {
            events: NonZeroU32::new(events)?,
            per: Duration::from_secs(*seconds),
        })
    });
    if rate.is_none() {
        problems.report(
            node.at,
            format!("{} is no rate; expected one such as `5/s`, `300/m` or `1000/h`; leave `rate` out for no limit", quote(said)),
        );
    }
    rate
}
