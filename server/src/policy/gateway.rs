//! What holds for the whole gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Quota;
use super::ban::{self, BanPolicy};
use super::duration::{duration, limit};
use super::fields::address::address;
use super::fields::number::{percent, quota};
use super::fields::text::filled;
use super::fields::{self, MappingFields};
use super::format::{ADMIN, GATEWAY, LIMITS, TIMEOUTS, TLS};
use super::freebind::{self, Freebind};
use super::problem::{ProblemList, TextPosition};
use super::size::{self, MemoryLimit};
use super::steer::{self, SteerPolicy};
use super::workers::{self, WorkerPolicy};
use super::yaml::{YamlNode, YamlValue};

/// What holds for the whole gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayPolicy {
    /// Where it listens; at least one address, all different.
    pub listen: Vec<SocketAddr>,
    /// How long a start tries again while it cannot listen at one of them; `None` if it fails at once.
    pub listen_retry: Option<Duration>,
    /// Whether it may listen at addresses that are not there.
    pub freebind: Freebind,
    /// The files behind mutual TLS.
    pub tls: TlsFiles,
    /// What the kernel is to hand to it besides; `None` if nothing.
    pub steer: Option<SteerPolicy>,
    /// Which sources the kernel turns away for a while; `None` if none.
    pub ban: Option<BanPolicy>,
    /// The path of the socket where operators reach the gateway, as it is written; `None` if nowhere.
    pub admin: Option<PathBuf>,
    /// How much of the gateway may be in use.
    pub limits: GatewayLimits,
    /// How long things may take.
    pub timeouts: GatewayTimeouts,
    /// What happens to a connection whose permit was revoked.
    pub on_revoke: OnRevoke,
    /// How many workers there are, and on which processors; it holds from the start to the end of a process.
    pub workers: WorkerPolicy,
}

/// Paths as they are written; relative ones start at the policy's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The gateway's certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates, PEM.
    pub client_ca: PathBuf,
    /// Revocation lists, PEM; perhaps none.
    pub crl: Vec<PathBuf>,
    /// What a list that is out of date means.
    pub expired_crl: ExpiredCrl,
    /// Where they are named.
    pub positions: TlsPositions,
}

/// One of the files behind mutual TLS, by the key that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// The gateway's certificate.
    Certificate,
    /// The certificate's private key.
    Key,
    /// The authorities that sign clients' certificates.
    ClientCa,
    /// The revocation list of this index.
    Crl(usize),
}

impl TlsFile {
    /// The key of the policy that names it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "gateway.tls.certificate",
            Self::Key => "gateway.tls.key",
            Self::ClientCa => "gateway.tls.client_ca",
            Self::Crl(_) => "gateway.tls.crl",
        }
    }
}

/// Where the files behind mutual TLS are named in the policy.
///
/// All are equal, as with [`SourceLine`](super::SourceLine): that a line moved is no change of the policy.
#[derive(Debug, Clone, Default)]
pub struct TlsPositions {
    certificate: TextPosition,
    key: TextPosition,
    client_ca: TextPosition,
    crl: Vec<TextPosition>,
}

impl TlsPositions {
    pub(super) fn at(&self, file: TlsFile) -> TextPosition {
        match file {
            TlsFile::Certificate => self.certificate,
            TlsFile::Key => self.key,
            TlsFile::ClientCa => self.client_ca,
            TlsFile::Crl(index) => self.crl.get(index).copied().unwrap_or_default(),
        }
    }

    /// The line and the column of a file's name, both from 1.
    pub fn position(&self, file: TlsFile) -> (u32, u32) {
        let TextPosition { line, column } = self.at(file);
        (line, column)
    }
}

impl PartialEq for TlsPositions {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TlsPositions {}

impl TlsFiles {
    /// The same files with relative paths starting at `base`.
    #[must_use]
    pub fn resolved(&self, base: &Path) -> Self {
        Self {
            certificate: base.join(&self.certificate),
            key: base.join(&self.key),
            client_ca: base.join(&self.client_ca),
            crl: self.crl.iter().map(|list| base.join(list)).collect(),
            expired_crl: self.expired_crl,
            positions: self.positions.clone(),
        }
    }
}

/// What a revocation list that is out of date means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredCrl {
    /// Nobody gets in before there is a new one.
    Refuse,
    /// It still counts.
    Accept,
}

/// How much of the gateway may be in use before and after anybody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Open connections.
    pub connections: Quota,
    /// Connections whose `ClientHello` is not whole.
    pub silent: Quota,
    /// Handshakes in flight.
    pub handshakes: Quota,
    /// Handshakes in flight from one source.
    pub handshakes_per_source: Quota,
    /// Memory.
    pub memory: MemoryLimit,
}

/// How long things may take; `None` is without limit.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayTimeouts {
    /// From accept to the end of the handshake.
    pub handshake: Duration,
    /// One dial to an upstream.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
    /// Without a byte, of a connection of which one side has ended.
    pub half_closed: Option<Duration>,
    /// Without a side taking anything of what waits for it.
    pub stall: Option<Duration>,
    /// Before a silent peer is asked whether it is still there; no group asks less often.
    pub keepalive: Duration,
    /// A whole connection.
    pub lifetime: Option<Duration>,
    /// The share by which lifetimes differ, so that connections do not end all at once.
    pub lifetime_jitter: f64,
    /// Between the order to stop and the end of what is still open.
    pub drain: Duration,
}

/// What happens to a connection whose permit was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRevoke {
    /// It ends at once.
    Cut,
    /// It ends within the drain's time.
    Drain,
    /// It stays.
    Keep,
}

/// Reads `gateway:`. `None` comes with a problem.
pub(super) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<GatewayPolicy> {
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
    use crate::policy::tests::*;

    #[test]
    fn each_mistake_in_the_gateways_settings_is_told_with_its_place() {
        let rest = format!("{GROUPS}clients: {{}}\n");
        for (from, to, message) in [
            (
                "version: 1",
                "version: 2",
                "1:10: `2` is no version of this file; expected `1`",
            ),
            (
                "['[::]:8443']",
                "[]",
                "2:19: the list is empty; expected at least one of addresses",
            ),
            (
                "'[::]:8443'",
                "8443",
                "2:20: `8443` is no address; expected an IP address with a port, such as `10.0.0.1:5432` or `[::1]:5432`",
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
                "3:61: unknown key `quota` in `gateway`; expected `listen`, `listen_retry`, `freebind`, `tls`, `steer`, `ban`, `admin`, `limits`, `timeouts`, `on_revoke`, `workers`",
            ),
            (
                "ca.crt}}",
                "ca.crt}, on_revoke: cutt}",
                "3:72: `cutt` is unknown; expected `cut` or `drain` or `keep`; did you mean `cut`?",
            ),
            (
                "ca.crt}}",
                "ca.crt}, timeouts: {drain: unlimited}}",
                "3:79: `unlimited` is no duration; expected one such as `500ms`, `5s`, `10m`, `1h` or `2d`; this one has to end",
            ),
            (
                "ca.crt}}",
                "ca.crt}, limits: {handshakes: 0}}",
                "3:82: `0` would let nothing through; write `unlimited` for no limit, or take the grant away",
            ),
        ] {
            let text = with(&rest).replacen(from, to, 1);
            assert_told(&text, message);
        }
    }
}
