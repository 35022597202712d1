//! Conversion of the policy's data into the types of the balancer ([`lb`]).

use std::sync::Arc;
use std::time::Duration;

use lb::{
    ClientLimits, DialConfig, GroupConfig, HealthConfig, LONGEST_TIME, OnDown, ProbeKind, Rate,
    RelayConfig, UpstreamConfig, UpstreamState, WhenAllDown,
};
use policy::{self, ClientPolicy, GatewayPolicy, GroupPolicy, SniName, WhenFull};

use crate::proxy_header;
use crate::quota::limit;
use crate::tls_probe::TlsProbe;

/// Returns the limits of one client.
pub(crate) fn client(client: &ClientPolicy) -> ClientLimits {
    ClientLimits {
        connections: limit(client.max_connections),
        rate: client.rate.map(|rate| Rate {
            events: rate.events,
            per: rate.per,
        }),
        wait: match client.when_full {
            WhenFull::Reset => Duration::ZERO,
            WhenFull::Wait(limit) => limit,
        },
    }
}

/// Returns the configuration of a group. The gateway's timeouts fill in for those that the group
/// does not set.
pub(crate) fn group(group: &GroupPolicy, gateway: &GatewayPolicy) -> GroupConfig {
    let upstreams = group.upstreams.iter().map(upstream).collect();
    GroupConfig {
        health: health(group),
        max_connections: limit(group.max_connections),
        when_all_down: match group.when_all_down {
            policy::WhenAllDown::Refuse => WhenAllDown::Refuse,
            policy::WhenAllDown::TryAll => WhenAllDown::TryAll,
        },
        dial: dial(group, gateway),
        relay: relay(group, gateway),
        ..GroupConfig::new(Arc::clone(&group.name), upstreams)
    }
}

fn dial(group: &GroupPolicy, gateway: &GatewayPolicy) -> DialConfig {
    let connect = group.timeouts.connect.unwrap_or(gateway.timeouts.connect);
    DialConfig {
        connect,
        tries: group.tries,
        budget: connect.saturating_mul(group.tries.get()).min(LONGEST_TIME),
    }
}

fn relay(group: &GroupPolicy, gateway: &GatewayPolicy) -> RelayConfig {
    let (own, all) = (&group.timeouts, &gateway.timeouts);
    RelayConfig {
        idle: own.idle.unwrap_or(all.idle),
        half_closed: own.half_closed.unwrap_or(all.half_closed),
        stall: own.stall.unwrap_or(all.stall),
        lifetime: own.lifetime.unwrap_or(all.lifetime),
        lifetime_jitter: all.lifetime_jitter,
        keepalive: own.keepalive.unwrap_or(all.keepalive),
    }
}

fn upstream(upstream: &policy::UpstreamPolicy) -> UpstreamConfig {
    UpstreamConfig {
        address: upstream.address,
        weight: upstream.weight,
        backup: upstream.backup,
        state: match upstream.state {
            policy::UpstreamState::Ready => UpstreamState::Ready,
            policy::UpstreamState::Drain => UpstreamState::Drain,
            policy::UpstreamState::Maint => UpstreamState::Maint,
        },
    }
}

/// Returns the name that a TLS probe sends as SNI: the configured one, or else the first of the
/// group's names that is not a wildcard.
fn probed_name(group: &GroupPolicy) -> Option<&str> {
    let configured = group.health.sni.iter();
    configured.chain(&group.sni).find_map(|name| match name {
        SniName::Exact(name) => Some(&**name),
        SniName::Below(_) => None,
    })
}

fn health(group: &GroupPolicy) -> HealthConfig {
    let health = &group.health;
    HealthConfig {
        check: match &health.check {
            policy::CheckPolicy::Off => ProbeKind::Off,
            policy::CheckPolicy::Tcp => ProbeKind::Tcp,
            policy::CheckPolicy::Tls => {
                ProbeKind::Custom(Arc::new(TlsProbe::new(probed_name(group))))
            }
            policy::CheckPolicy::SendExpect { send, expect } => ProbeKind::SendExpect {
                send: send.clone(),
                expect: expect.clone(),
            },
        },
        preface: match group.proxy_protocol {
            Some(policy::ProxyProtocol::V2) => proxy_header::local(),
            None => Vec::new(),
        },
        interval: health.interval,
        timeout: health.timeout,
        rise: health.rise,
        fall: health.fall,
        jitter: health.jitter,
        on_down: match health.on_down {
            policy::OnDown::Keep => OnDown::Keep,
            policy::OnDown::Cut => OnDown::Cut,
        },
    }
}

#[cfg(test)]
mod every_field;
