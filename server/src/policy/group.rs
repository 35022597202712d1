//! A group: interchangeable upstreams and how they are reached.

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

/// The longest protocol name in ALPN (RFC 7301 3.1).
const LONGEST_PROTOCOL: usize = 255;

/// A named set of interchangeable upstreams.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPolicy {
    /// Its name.
    pub name: Arc<str>,
    /// The names by which clients ask for it; never empty.
    pub sni: Vec<SniName>,
    /// The destination ports whose clients reach it without SNI.
    pub ports: Vec<u16>,
    /// Where its connections go; never empty, all addresses different.
    pub upstreams: Vec<UpstreamPolicy>,
    /// How its upstreams are probed.
    pub health: HealthPolicy,
    /// Whether upstreams are told who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The application protocols that clients may choose from; empty means that none is agreed on.
    pub alpn: Vec<Vec<u8>>,
    /// How many connections it takes from all clients together.
    pub max_connections: Quota,
    /// What happens without a healthy upstream.
    pub when_all_down: WhenAllDown,
    /// What it has instead of the gateway's timeouts.
    pub timeouts: GroupTimeouts,
    /// How many upstreams are dialed for one connection.
    pub tries: NonZeroU32,
    /// Where its name is in the file that it was read from.
    pub line: SourceLine,
}

/// One address that connections go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamPolicy {
    /// The address.
    pub address: SocketAddr,
    /// Its share of the connections, relative to the others.
    pub weight: NonZeroU32,
    /// Whether it serves only when no other is healthy.
    pub backup: bool,
    /// What the operator wants of it.
    pub state: UpstreamState,
}

/// What the operator wants of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamState {
    /// It serves.
    Ready,
    /// It gets no new connection.
    Drain,
    /// It gets no new connection and no probe.
    Maint,
}

/// How upstreams are probed.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthPolicy {
    /// What a probe asks.
    pub check: CheckPolicy,
    /// The name that a TLS probe asks for, if it is not one of the group's; no wildcard.
    pub sni: Option<SniName>,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Passes to come up.
    pub rise: NonZeroU32,
    /// Failures to go down.
    pub fall: NonZeroU32,
    /// The share by which intervals differ.
    pub jitter: f64,
    /// What becomes of the connections of an upstream that goes down.
    pub on_down: OnDown,
}

/// What becomes of the connections of an upstream that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// They go on as long as they can.
    Keep,
    /// They are reset.
    Cut,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckPolicy {
    /// Nothing; upstreams count as healthy.
    Off,
    /// That it accepts a connection.
    Tcp,
    /// That it completes a TLS handshake.
    Tls,
    /// That it answers.
    SendExpect {
        /// What is sent.
        send: Vec<u8>,
        /// What the answer must begin with.
        expect: Vec<u8>,
    },
}

/// How upstreams are told who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The binary header of version 2.
    V2,
}

/// What happens without a healthy upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllDown {
    /// Clients are turned away.
    Refuse,
    /// All are tried as if they were healthy.
    TryAll,
}

/// What a group has instead of the gateway's timeouts; `None` is what the gateway has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupTimeouts {
    /// One dial to an upstream.
    pub connect: Option<Duration>,
    /// Without a byte in either direction; `Some(None)` is without limit.
    pub idle: Option<Option<Duration>>,
    /// Without a byte, of a connection of which one side has ended; `Some(None)` is without limit.
    pub half_closed: Option<Option<Duration>>,
    /// Without a side taking anything of what waits for it; `Some(None)` is without limit.
    pub stall: Option<Option<Duration>>,
    /// Before a silent peer is asked whether it is still there; at most what the gateway has.
    pub keepalive: Option<Duration>,
    /// A whole connection; `Some(None)` is without limit.
    pub lifetime: Option<Option<Duration>>,
}

pub(super) static PROTOCOL: ScalarFormat = ScalarFormat {
    name: "Protocol",
    doc: "The name of an application protocol, such as `h2`; at most 255 bytes.",
    schema: || json!({"type": "string", "minLength": 1, "maxLength": LONGEST_PROTOCOL}),
};

/// Reads the group `name`. `None` comes with a problem.
pub(super) fn read(
    name: &str,
    at: TextPosition,
    node: &YamlNode<'_>,
    problems: &mut ProblemList,
) -> Option<GroupPolicy> {
    let fields = MappingFields::of(node, &GROUP, problems)?;
    let own_name = |problems: &mut ProblemList| match SniName::new(name) {
        Ok(sni) => Some(vec![sni]),
        Err(error) => {
            let name = quote(name);
            problems.report(at, format!("{name} is no DNS name, because {error}; expected `sni: […]` with the names that clients ask for"));
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
    /// An upstream of which no more is said than its address.
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
