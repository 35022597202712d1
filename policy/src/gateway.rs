//! `gateway:` of the policy: the settings of the gateway as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::access_log::{self, AccessLogPolicy};
use crate::ban::{self, BanPolicy};
use crate::duration::{duration, limit};
use crate::fields::address::address;
use crate::fields::number::{percent, quota};
use crate::fields::text::filled;
use crate::fields::{self, MappingFields};
use crate::format::{ADMIN, GATEWAY, LIMITS, TIMEOUTS, TLS};
use crate::freebind::{self, Freebind};
use crate::problem::ProblemList;
use crate::quota::Quota;
use crate::size::{self, MemoryLimit};
use crate::steer::{self, SteerPolicy};
use crate::tls_files::{ExpiredCrl, TlsFiles, TlsPositions};
use crate::workers::{self, WorkerPolicy};
use policy_yaml::{YamlNode, YamlValue};

/// Settings of the gateway as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayPolicy {
    /// Addresses that the gateway listens on; at least one, all different.
    pub listen: Vec<SocketAddr>,
    /// Time for which a start tries again while an address of `listen` is in use or does not exist;
    /// `None` if it fails at once.
    pub listen_retry: Option<Duration>,
    /// Permission to listen on addresses that no interface has.
    pub freebind: Freebind,
    /// Files for mutual TLS.
    pub tls: TlsFiles,
    /// Ports that the kernel steers to the gateway in addition; `None` if there are none.
    pub steer: Option<SteerPolicy>,
    /// Rule by which the kernel blocks sources for a while; `None` if it blocks none.
    pub ban: Option<BanPolicy>,
    /// Path of the socket of the admin interface, as it is written; `None` if there is no such
    /// interface.
    pub admin: Option<PathBuf>,
    /// Access records that are written.
    pub access_log: AccessLogPolicy,
    /// Upper bounds of connections, handshakes and memory.
    pub limits: GatewayLimits,
    /// Timeouts of handshakes and connections.
    pub timeouts: GatewayTimeouts,
    /// Treatment of connections whose client, grant or certificate is no longer valid.
    pub on_revoke: OnRevoke,
    /// Number of workers and their processors; fixed for the lifetime of a process.
    pub workers: WorkerPolicy,
}

/// Upper bounds of what clients may use of the gateway, before and after they are identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Open connections.
    pub connections: Quota,
    /// Connections that have not yet sent a whole `ClientHello`.
    pub silent: Quota,
    /// Handshakes in flight, from a whole `ClientHello` on.
    pub handshakes: Quota,
    /// Handshakes in flight from one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub handshakes_per_source: Quota,
    /// Memory of the process.
    pub memory: MemoryLimit,
}

/// Timeouts of handshakes and connections; `None` is without limit.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayTimeouts {
    /// Time from accept to the end of the handshake.
    pub handshake: Duration,
    /// Time for one dial to an upstream.
    pub connect: Duration,
    /// Longest time without a byte in either direction.
    pub idle: Option<Duration>,
    /// Longest time without a byte on a connection of which one side has ended; a third of it if
    /// that side is the upstream.
    pub half_closed: Option<Duration>,
    /// Longest time in which a side takes none of the bytes that wait for it.
    pub stall: Option<Duration>,
    /// Time until a silent peer is probed (keepalive); also the upper bound for the value of a
    /// group.
    pub keepalive: Duration,
    /// Longest duration of a connection.
    pub lifetime: Option<Duration>,
    /// Share (0 to 1) by which chance may shorten a lifetime, so that connections do not end all at
    /// once.
    pub lifetime_jitter: f64,
    /// Time from the order to stop until connections that are still open are ended.
    pub drain: Duration,
}

/// Treatment of connections whose client, grant or certificate is no longer valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRevoke {
    /// The connection ends at once.
    Cut,
    /// The connection ends within [`GatewayTimeouts::drain`].
    Drain,
    /// The connection stays open.
    Keep,
}

/// Reads `gateway:`. `None` means that a problem was reported.
pub(crate) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<GatewayPolicy> {
    let fields = MappingFields::of(node, &GATEWAY, problems)?;
    let listen = fields
        .need("listen", problems)
        .and_then(|node| fields::list(node, "addresses", problems, address));
    let (listen_retry, freebind) = freebind::read(&fields, problems);
    let tls = fields
        .need("tls", problems)
        .and_then(|node| tls(node, problems));
    let steer = fields.or("steer", None, problems, |node, problems| {
        steer::read(node, problems).map(Some)
    });
    let ban = fields.or("ban", None, problems, |node, problems| {
        ban::read(node, problems).map(Some)
    });
    let admin = fields.or("admin", None, problems, |node, problems| {
        let fields = MappingFields::of(node, &ADMIN, problems)?;
        let socket = fields.need("socket", problems)?;
        path(socket, problems).map(Some)
    });
    let access_log = fields.or(
        "access_log",
        AccessLogPolicy::default(),
        problems,
        access_log::read,
    );
    let limits = fields.or("limits", None, problems, |node, problems| {
        limits(node, problems).map(Some)
    });
    let timeouts = fields.or("timeouts", None, problems, |node, problems| {
        timeouts(node, problems).map(Some)
    });
    let on_revoke = fields.value("on_revoke", problems, |node, problems| {
        let words = [
            ("cut", OnRevoke::Cut),
            ("drain", OnRevoke::Drain),
            ("keep", OnRevoke::Keep),
        ];
        fields::word(node, &words, problems)
    });
    let workers = fields.or(
        "workers",
        WorkerPolicy::default(),
        problems,
        |node, problems| workers::read(node, steer.as_ref(), problems),
    );
    Some(GatewayPolicy {
        listen: listen?,
        listen_retry,
        freebind,
        tls: tls?,
        steer,
        ban,
        admin,
        access_log,
        limits: limits.unwrap_or_default(),
        timeouts: timeouts.unwrap_or_default(),
        on_revoke,
        workers,
    })
}

fn tls(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<TlsFiles> {
    let fields = MappingFields::of(node, &TLS, problems)?;
    let mut file = |key| {
        let node = fields.need(key, problems)?;
        Some((path(node, problems)?, node.at))
    };
    let (certificate, key, client_ca) = (file("certificate"), file("key"), file("client_ca"));
    let located = |node: &YamlNode<'_>, problems: &mut ProblemList| {
        path(node, problems).map(|path| (path, node.at))
    };
    let crl = fields.or("crl", Vec::new(), problems, |node, problems| {
        if let YamlValue::List(_) = node.value {
            fields::list_by(node, "paths", problems, located, |(path, _)| path.clone())
        } else {
            located(node, problems).map(|one| vec![one])
        }
    });
    let expired_crl = fields.value("expired_crl", problems, |node, problems| {
        let words = [
            ("refuse", ExpiredCrl::Refuse),
            ("accept", ExpiredCrl::Accept),
        ];
        fields::word(node, &words, problems)
    });
    let (certificate, key, client_ca) = (certificate?, key?, client_ca?);
    let (crl, crl_places) = crl.into_iter().unzip();
    let files = TlsFiles {
        certificate: certificate.0,
        key: key.0,
        client_ca: client_ca.0,
        crl,
        expired_crl,
        positions: TlsPositions {
            certificate: certificate.1,
            key: key.1,
            client_ca: client_ca.1,
            crl: crl_places,
        },
    };
    problems.name_files(&files);
    Some(files)
}

fn path(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<PathBuf> {
    filled(node, problems).map(PathBuf::from)
}

impl Default for GatewayLimits {
    fn default() -> Self {
        fields::usual(limits)
    }
}

fn limits(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<GatewayLimits> {
    let fields = MappingFields::of(node, &LIMITS, problems)?;
    let mut quota = |key| fields.value(key, problems, quota);
    Some(GatewayLimits {
        connections: quota("connections"),
        silent: quota("silent"),
        handshakes: quota("handshakes"),
        handshakes_per_source: quota("handshakes_per_source"),
        memory: fields.or("memory", MemoryLimit::Group, problems, size::memory),
    })
}

impl Default for GatewayTimeouts {
    fn default() -> Self {
        fields::usual(timeouts)
    }
}

fn timeouts(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<GatewayTimeouts> {
    let fields = MappingFields::of(node, &TIMEOUTS, problems)?;
    Some(GatewayTimeouts {
        handshake: fields.value("handshake", problems, duration),
        connect: fields.value("connect", problems, duration),
        idle: fields.value("idle", problems, limit),
        half_closed: fields.value("half_closed", problems, limit),
        stall: fields.value("stall", problems, limit),
        keepalive: fields.value("keepalive", problems, duration),
        lifetime: fields.value("lifetime", problems, limit),
        lifetime_jitter: fields.value("lifetime_jitter", problems, percent),
        drain: fields.value("drain", problems, duration),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_support::*;

    #[test]
    fn each_mistake_in_the_gateways_settings_is_told_with_its_place() {
        let rest = format!("{GROUPS}clients: {{}}\n");
        for (from, to, message) in [
            (
                "version: 1",
                "version: 2",
                "1:10: `2` is not a version of this file; expected `1`",
            ),
            (
                "['[::]:8443']",
                "[]",
                "2:19: the list is empty; expected at least one of addresses",
            ),
            (
                "'[::]:8443'",
                "8443",
                "2:20: `8443` is not an address; expected an IP address with a port, such as `10.0.0.1:5432` or `[::1]:5432`",
            ),
            (
                "'[::]:8443'",
                "'[::]:1', '[::]:1'",
                "2:30: `[::]:1` is in the list twice",
            ),
            ("key: s.key, ", "", "3:8: `key` is missing in `tls`"),
            ("key: s.key", "key: ''", "3:34: the text is empty"),
            (
                "ca.crt}}",
                "ca.crt}, quota: {}}",
                "3:61: unknown key `quota` in `gateway`; expected `listen`, `listen_retry`, `freebind`, `tls`, `steer`, `ban`, `admin`, `access_log`, `limits`, `timeouts`, `on_revoke`, `workers`",
            ),
            (
                "ca.crt}}",
                "ca.crt}, on_revoke: cutt}",
                "3:72: `cutt` is unknown; expected `cut` or `drain` or `keep`; did you mean `cut`?",
            ),
            (
                "ca.crt}}",
                "ca.crt}, timeouts: {drain: unlimited}}",
                "3:79: `unlimited` is not a duration; expected one such as `500ms`, `5s`, `10m`, \
                 `1h` or `2d`; `unlimited` is not possible here",
            ),
            (
                "ca.crt}}",
                "ca.crt}, limits: {handshakes: 0}}",
                "3:82: `0` would allow nothing; write `unlimited` for no limit, or remove the \
                 grant",
            ),
        ] {
            let text = with(&rest).replacen(from, to, 1);
            assert_told(&text, message);
        }
    }
}
