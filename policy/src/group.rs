//! Settings of a group: interchangeable upstreams, and the way to reach them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::json;

use super::duration::{duration, limit};
use super::fields::address::connectable;
use super::fields::number::{count, flag, percent, port, quota};
use super::fields::text::{bytes, filled};
use super::fields::{self, MappingFields, quote};
use super::format::{GROUP, GROUP_TIMEOUTS, HEALTH, SEND_EXPECT, ScalarFormat, UPSTREAM};
use super::name::sni;
use super::problem::{ProblemList, TextPosition};
use super::yaml::{YamlNode, YamlValue};
use super::{Quota, SniName, SourceLine};

/// Longest name of an application protocol in ALPN, in bytes (RFC 7301 3.1).
const LONGEST_PROTOCOL: usize = 255;

/// Named set of interchangeable upstreams with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPolicy {
    /// Name of the group.
    pub name: Arc<str>,
    /// Names that clients send as SNI to reach the group; never empty.
    pub sni: Vec<SniName>,
    /// Destination ports by which clients without SNI reach the group.
    pub ports: Vec<u16>,
    /// Upstreams that connections go to; never empty, all addresses different.
    pub upstreams: Vec<UpstreamPolicy>,
    /// Probes of the upstreams.
    pub health: HealthPolicy,
    /// Header that reports the client to upstreams; `None` if they are not informed.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Application protocols (ALPN) that clients may choose from; empty means that none is agreed
    /// on.
    pub alpn: Vec<Vec<u8>>,
    /// Upper bound of the open connections of all clients together.
    pub max_connections: Quota,
    /// Treatment of clients while no upstream is healthy.
    pub when_all_down: WhenAllDown,
    /// Timeouts that replace the [`GatewayTimeouts`](super::GatewayTimeouts).
    pub timeouts: GroupTimeouts,
    /// Largest number of upstreams that are dialed for one connection.
    pub tries: NonZeroU32,
    /// Line of the group's name in the file that it was read from.
    pub line: SourceLine,
}

/// Address that connections go to, with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamPolicy {
    /// The address.
    pub address: SocketAddr,
    /// Share of the connections, relative to the weights of the other upstreams.
    pub weight: NonZeroU32,
    /// If true, connections go to the upstream only if no upstream without this flag is healthy, or
    /// all of those were tried.
    pub backup: bool,
    /// State that the operator has set.
    pub state: UpstreamState,
}

/// State of an upstream, as set by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamState {
    /// The upstream serves.
    Ready,
    /// The upstream gets no new connection.
    Drain,
    /// The upstream gets no new connection and no probe.
    Maint,
}

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

/// Form of the PROXY protocol by which upstreams learn the client's address and identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Binary header of version 2.
    V2,
}

/// Treatment of clients while no upstream is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllDown {
    /// Clients are refused.
    Refuse,
    /// All upstreams are tried as if they were healthy.
    TryAll,
}

/// Timeouts of a group that replace the [`GatewayTimeouts`](super::GatewayTimeouts); `None` is the
/// gateway's value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupTimeouts {
    /// Time for one dial to an upstream.
    pub connect: Option<Duration>,
    /// Longest time without a byte in either direction; `Some(None)` is without limit.
    pub idle: Option<Option<Duration>>,
    /// Longest time without a byte on a connection of which one side has ended; `Some(None)` is
    /// without limit.
    pub half_closed: Option<Option<Duration>>,
    /// Longest time in which a side takes none of the bytes that wait for it; `Some(None)` is
    /// without limit.
    pub stall: Option<Option<Duration>>,
    /// Time until a silent peer is probed (keepalive); at most the gateway's value.
    pub keepalive: Option<Duration>,
    /// Longest duration of a connection; `Some(None)` is without limit.
    pub lifetime: Option<Option<Duration>>,
}

pub(super) static PROTOCOL: ScalarFormat = ScalarFormat {
    name: "Protocol",
    doc: "The name of an application protocol, such as `h2`; at most 255 bytes.",
    schema: || json!({"type": "string", "minLength": 1, "maxLength": LONGEST_PROTOCOL}),
};

/// Reads the group `name`. `None` means that a problem was reported.
pub(super) fn read(
    name: &str,
    at: TextPosition,
    node: &YamlNode<'_>,
    problems: &mut ProblemList,
) -> Option<GroupPolicy> {
    let fields = MappingFields::of(node, &GROUP, problems)?;
    let own_name =
        |problems: &mut ProblemList| match SniName::new(name) {
            Ok(sni) => Some(vec![sni]),
            Err(error) => {
                let name = quote(name);
                problems.report(at, format!(
                "{name} is not a DNS name, because {error}; expected `sni: […]` with the names \
                 that clients ask for"));
                None
            }
        };
    let sni = match fields.get("sni") {
        Some(node) => fields::list(node, "names", problems, sni),
        None => own_name(problems),
    };
    let upstreams = fields
        .need("upstreams", problems)
        .and_then(|node| upstreams(node, problems));
    let ports = |node: &YamlNode<'_>, problems: &mut ProblemList| {
        fields::list(node, "ports", problems, port)
    };
    let when_all_down = [
        ("refuse", WhenAllDown::Refuse),
        ("try_all", WhenAllDown::TryAll),
    ];
    let health = fields.or("health", None, problems, |node, problems| {
        health(node, problems).map(Some)
    });
    Some(GroupPolicy {
        name: Arc::from(name),
        sni: sni?,
        ports: fields.or("ports", Vec::new(), problems, ports),
        upstreams: upstreams?,
        health: health.unwrap_or_default(),
        proxy_protocol: fields.or("proxy_protocol", None, problems, |node, problems| {
            fields::word(node, &[("v2", ProxyProtocol::V2)], problems).map(Some)
        }),
        alpn: fields.or("alpn", Vec::new(), problems, |node, problems| {
            fields::list(node, "protocols", problems, protocol)
        }),
        max_connections: fields.value("max_connections", problems, quota),
        when_all_down: fields.value("when_all_down", problems, |node, problems| {
            fields::word(node, &when_all_down, problems)
        }),
        timeouts: fields.or("timeouts", GroupTimeouts::default(), problems, timeouts),
        tries: fields.value("tries", problems, count),
        line: SourceLine::of(at),
    })
}

fn protocol(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Vec<u8>> {
    let protocol = filled(node, problems)?;
    if protocol.len() > LONGEST_PROTOCOL {
        problems.report(
            node.at,
            format!("the protocol's name has more than {LONGEST_PROTOCOL} bytes"),
        );
        return None;
    }
    Some(protocol.as_bytes().to_vec())
}

fn upstreams(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Vec<UpstreamPolicy>> {
    fields::list_by(node, "upstreams", problems, upstream, |upstream| {
        upstream.address
    })
}

fn upstream(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<UpstreamPolicy> {
    /// Settings of an upstream for which only the address is written.
    static USUAL: LazyLock<UpstreamPolicy> = LazyLock::new(|| {
        let nowhere = SocketAddr::from(([0; 4], 0));
        let fields = MappingFields::none(&UPSTREAM);
        described(&fields, nowhere, &mut ProblemList::default())
    });
    if !matches!(node.value, YamlValue::Map(_)) {
        let address = connectable(node, problems)?;
        return Some(UpstreamPolicy {
            address,
            ..USUAL.clone()
        });
    }
    let fields = MappingFields::of(node, &UPSTREAM, problems)?;
    let address = fields
        .need("address", problems)
        .and_then(|node| connectable(node, problems));
    let nowhere = SocketAddr::from(([0; 4], 0));
    let upstream = described(&fields, address.unwrap_or(nowhere), problems);
    address.map(|_| upstream)
}

fn described(
    fields: &MappingFields<'_, '_>,
    address: SocketAddr,
    problems: &mut ProblemList,
) -> UpstreamPolicy {
    let states = [
        ("ready", UpstreamState::Ready),
        ("drain", UpstreamState::Drain),
        ("maint", UpstreamState::Maint),
    ];
    UpstreamPolicy {
        address,
        weight: fields.value("weight", problems, count),
        backup: fields.value("backup", problems, flag),
        state: fields.value("state", problems, |node, problems| {
            fields::word(node, &states, problems)
        }),
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        static USUAL: LazyLock<HealthPolicy> = LazyLock::new(|| fields::usual(health));
        USUAL.clone()
    }
}

fn health(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<HealthPolicy> {
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

fn timeouts(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<GroupTimeouts> {
    let fields = MappingFields::of(node, &GROUP_TIMEOUTS, problems)?;
    let mut limited = |key| {
        fields.or(key, None, problems, |node, problems| {
            limit(node, problems).map(Some)
        })
    };
    let (idle, half_closed) = (limited("idle"), limited("half_closed"));
    let (stall, lifetime) = (limited("stall"), limited("lifetime"));
    let mut time = |key| {
        fields.or(key, None, problems, |node, problems| {
            duration(node, problems).map(Some)
        })
    };
    Some(GroupTimeouts {
        connect: time("connect"),
        idle,
        half_closed,
        stall,
        keepalive: time("keepalive"),
        lifetime,
    })
}
