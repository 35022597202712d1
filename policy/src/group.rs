//! Settings of a group: interchangeable upstreams, and the way to reach them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::duration::{duration, limit};
use crate::fields::address::connectable;
use crate::fields::number::{count, flag, port, quota};
use crate::fields::protocol::protocol;
use crate::fields::{self, MappingFields, quote};
use crate::format::{GROUP, GROUP_TIMEOUTS, UPSTREAM};
use crate::health::{self, HealthPolicy};
use crate::name::{SniName, sni};
use crate::problem::ProblemList;
use crate::quota::Quota;
use crate::source_line::SourceLine;
use policy_yaml::{TextPosition, YamlNode, YamlValue};

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
    /// Timeouts that replace the [`GatewayTimeouts`](crate::GatewayTimeouts).
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

/// Timeouts of a group that replace the [`GatewayTimeouts`](crate::GatewayTimeouts); `None` is the
/// gateway's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// Reads the group `name`. `None` means that a problem was reported.
pub(crate) fn read(
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
        health::read(node, problems).map(Some)
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
