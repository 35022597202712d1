//! `health:` of a group: how its upstreams are probed.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use crate::duration::duration;
use crate::fields::number::{count, percent};
use crate::fields::text::{bytes, filled};
use crate::fields::{self, MappingFields};
use crate::format::{HEALTH, SEND_EXPECT};
use crate::name::{SniName, sni};
use crate::problem::ProblemList;
use policy_yaml::{YamlNode, YamlValue};

/// Probes of the upstreams of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthPolicy {
    /// Kind of probe.
    pub check: CheckPolicy,
    /// Name that a TLS probe sends as SNI, not a wildcard; `None` is the first of the group's names
    /// that is not a wildcard.
    pub sni: Option<SniName>,
    /// Time from one probe to the next.
    pub interval: Duration,
    /// Longest duration of one probe.
    pub timeout: Duration,
    /// Number of successes in a row after which an upstream is up. One is enough if its state is
    /// not yet known.
    pub rise: NonZeroU32,
    /// Number of failures in a row after which an upstream is down.
    pub fall: NonZeroU32,
    /// Share (0 to 1) by which intervals differ.
    pub jitter: f64,
    /// Treatment of the connections of an upstream that goes down.
    pub on_down: OnDown,
}

/// Treatment of the connections of an upstream that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// The connections continue as long as they can.
    Keep,
    /// The connections are reset.
    Cut,
}

/// Kind of probe: the condition under which it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckPolicy {
    /// No probe; upstreams count as healthy.
    Off,
    /// The upstream accepts a connection.
    Tcp,
    /// The upstream completes a TLS handshake.
    Tls,
    /// The upstream answers as expected.
    SendExpect {
        /// Bytes that are sent; may be empty.
        send: Vec<u8>,
        /// Bytes that the answer must begin with; never empty.
        expect: Vec<u8>,
    },
}

impl Default for HealthPolicy {
    fn default() -> Self {
        static USUAL: LazyLock<HealthPolicy> = LazyLock::new(|| fields::usual(read));
        USUAL.clone()
    }
}

/// Reads `health:`. `None` means that a problem was reported.
pub(crate) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<HealthPolicy> {
    let fields = MappingFields::of(node, &HEALTH, problems)?;
    let check = fields.value("check", problems, check);
    let asks_for_a_name = check == CheckPolicy::Tls;
    Some(HealthPolicy {
        check,
        sni: fields.or("sni", None, problems, |node, problems| {
            probed_name(asks_for_a_name, node, problems).map(Some)
        }),
        interval: fields.value("interval", problems, duration),
        timeout: fields.value("timeout", problems, duration),
        rise: fields.value("rise", problems, count),
        fall: fields.value("fall", problems, count),
        jitter: fields.value("jitter", problems, percent),
        on_down: fields.value("on_down", problems, |node, problems| {
            let words = [("keep", OnDown::Keep), ("cut", OnDown::Cut)];
            fields::word(node, &words, problems)
        }),
    })
}

fn probed_name(
    is_asked_for: bool,
    node: &YamlNode<'_>,
    problems: &mut ProblemList,
) -> Option<SniName> {
    let name = sni(node, problems)?;
    if let SniName::Below(_) = name {
        let message = "a probe asks for one name; expected one without `*.`";
        problems.report(node.at, message);
        return None;
    }
    if !is_asked_for {
        let message = "only `check: tls` asks for a name; leave `sni` out of `health`";
        problems.report(node.at, message);
        return None;
    }
    Some(name)
}

fn check(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<CheckPolicy> {
    if matches!(node.value, YamlValue::Map(_)) {
        let fields = MappingFields::of(node, &SEND_EXPECT, problems)?;
        let send = fields
            .need("send", problems)
            .and_then(|node| bytes(node, problems));
        let expect = fields.need("expect", problems).and_then(|node| {
            filled(node, problems)?;
            bytes(node, problems)
        });
        return Some(CheckPolicy::SendExpect {
            send: send?,
            expect: expect?,
        });
    }
    let words = [("tcp", 0), ("tls", 1), ("off", 2)];
    fields::word(node, &words, problems)
        .map(|word| [CheckPolicy::Tcp, CheckPolicy::Tls, CheckPolicy::Off][word].clone())
}
