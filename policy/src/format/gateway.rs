//! Keys of `gateway:` and of the sections in it.

use serde_json::json;

use super::kinds::ValueKind::{Either, List, Scalar, Words};
use super::kinds::{FormatKey, FormatSection, ValueKind, may, need, or};
use crate::duration::{DURATION, DURATION_LIMIT};
use crate::fields::address::{LISTEN, PORT_RANGE, PREFIX};
use crate::fields::number::{COUNT, FLAG, PERCENT, PORT, QUOTA};
use crate::fields::text::PATH;
use crate::size::SIZE;
use crate::worker_count::{MOST_STEERED_WORKERS, WORKER_COUNT};

const TIME: ValueKind = Scalar(&DURATION);
const TIME_LIMIT: ValueKind = Scalar(&DURATION_LIMIT);

pub(crate) static GATEWAY: FormatSection = FormatSection {
    name: "Gateway",
    called: "`gateway`",
    doc: "Settings of the whole gateway.",
    keys: &[
        need(
            "listen",
            List(&Scalar(&LISTEN)),
            r#"["[::]:8443"]"#,
            "The addresses that the gateway listens on: IP addresses with ports. `[::]:8443` \
             takes IPv4 and IPv6.",
        ),
        may(
            "listen_retry",
            "a start fails at once",
            TIME,
            "30s",
            "Time for which a start tries again while an address of `listen` is in use or not \
             available. The gateway waits 250 ms before the second attempt, and up to a second \
             before later ones; signals are answered. A reload always tries again, and an upgrade \
             never does.",
        ),
        or(
            "freebind",
            "false",
            Scalar(&FLAG),
            "true",
            "Whether `listen` may have addresses that no interface has yet, such as a virtual \
             address of VRRP. Connections come as soon as the address does. A change applies to \
             listeners that are opened from then on.",
        ),
        need(
            "tls",
            ValueKind::Section(&TLS),
            "{certificate: server.crt, key: server.key, client_ca: ca.crt}",
            "The files for mutual TLS.",
        ),
        may(
            "steer",
            "none",
            ValueKind::Section(&STEER),
            "{ports: [5432]}",
            "Further ports, which the kernel steers to the gateway.",
        ),
        may(
            "ban",
            "none",
            ValueKind::Section(&BAN),
            "{failures: 5}",
            "Bans: sources that the kernel refuses for a while, on steered ports.",
        ),
        may(
            "admin",
            "none",
            ValueKind::Section(&ADMIN),
            "{socket: admin.sock}",
            "Interface for operators of the running gateway.",
        ),
        may(
            "limits",
            "the defaults of its keys",
            ValueKind::Section(&LIMITS),
            "{connections: 50000}",
            "Limits of the gateway.",
        ),
        may(
            "timeouts",
            "the defaults of its keys",
            ValueKind::Section(&TIMEOUTS),
            "{idle: 10m}",
            "Time limits.",
        ),
        or(
            "on_revoke",
            "cut",
            ON_REVOKE,
            "drain",
            "What happens to an open connection whose client, grant or certificate is no longer \
             valid.",
        ),
        may(
            "workers",
            "one for each processor",
            Either(&[Scalar(&WORKER_COUNT), ValueKind::Section(&WORKERS)]),
            "4",
            "Number of workers, and the processors that they run on. `--workers` on the command \
             line wins over the number.",
        ),
    ],
    rule: Some(|| {
        let off = json!({"properties": {"mode": {"anyOf": [{"const": "off"}, {"const": false}]}}, "required": ["mode"], "type": "object"});
        let few = json!({"maximum": MOST_STEERED_WORKERS, "properties": {"count": {"maximum": MOST_STEERED_WORKERS}}});
        json!({
            "if": {"required": ["steer"], "properties": {"steer": {"not": off}}},
            "then": {"properties": {"workers": few}},
        })
    }),
};

pub(crate) static WORKERS: FormatSection = FormatSection {
    name: "Workers",
    called: "`workers`",
    doc: "Threads, each with a listener and connections of its own.",
    keys: &[
        may(
            "count",
            "one for each processor that the process may use, at most 64 with `steer`",
            Scalar(&WORKER_COUNT),
            "4",
            "Number of workers: at most 1024, and at most 64 with `steer`.",
        ),
        or(
            "affinity",
            "off",
            AFFINITY,
            "on",
            "Whether each worker stays on one of the processors that the process may use, which \
             its control group, its parent or `taskset` may have narrowed. Workers that outnumber \
             the processors share them.",
        ),
    ],
    rule: None,
};

const AFFINITY: ValueKind = Words(&[
    ("on", "Each worker stays on one processor."),
    (
        "off",
        "The kernel moves workers between processors, like other threads.",
    ),
]);

const ON_REVOKE: ValueKind = Words(&[
    ("cut", "It ends within a second."),
    ("drain", "It ends within `timeouts.drain`."),
    ("keep", "It stays open."),
]);

pub(crate) static TLS: FormatSection = FormatSection {
    name: "Tls",
    called: "`tls`",
    doc: "The files for mutual TLS. Relative paths start at the policy's directory.",
    keys: &[
        need(
            "certificate",
            Scalar(&PATH),
            "certs/server.crt",
            "The gateway's certificate, followed by the intermediate certificates that clients \
             need, PEM.",
        ),
        need(
            "key",
            Scalar(&PATH),
            "certs/server.key",
            "The certificate's private key, PEM, not encrypted.",
        ),
        need(
            "client_ca",
            Scalar(&PATH),
            "certs/ca.crt",
            "The authorities that sign clients' certificates, PEM.",
        ),
        may(
            "crl",
            "nothing is revoked",
            Either(&[Scalar(&PATH), List(&Scalar(&PATH))]),
            "[certs/ca.crl]",
            "Revocation lists, PEM: one path or several. With them, a client whose authority has \
             no list here is refused.",
        ),
        or(
            "expired_crl",
            "refuse",
            EXPIRED_CRL,
            "accept",
            "What happens to new clients of an authority whose revocation list has expired. Open \
             connections go on.",
        ),
    ],
    rule: None,
};

const EXPIRED_CRL: ValueKind = Words(&[
    ("refuse", "They are refused until there is a newer list."),
    ("accept", "The expired list is used."),
]);

pub(crate) static STEER: FormatSection = FormatSection {
    name: "Steer",
    called: "`steer`",
    doc: "Ports that the kernel steers to the gateway: these, and the `ports` of groups.",
    keys: &[
        or(
            "mode",
            "auto",
            STEER_MODE,
            "required",
            "What happens if the kernel cannot steer.",
        ),
        may(
            "ports",
            "only the `ports` of groups",
            List(&Either(&[Scalar(&PORT), Scalar(&PORT_RANGE)])),
            r#"[5432, "7000-7100"]"#,
            "The ports: numbers, or ranges such as `7000-7100`.",
        ),
        may(
            "addresses",
            "all addresses",
            List(&Scalar(&PREFIX)),
            "[192.0.2.0/24]",
            "Destination addresses: IP addresses, or prefixes such as `192.0.2.0/24`.",
        ),
    ],
    rule: None,
};

const STEER_MODE: ValueKind = Words(&[
    ("required", "The gateway does not start."),
    (
        "auto",
        "The gateway logs a warning, and serves only the addresses that it listens on.",
    ),
    ("off", "The gateway does not steer."),
]);

pub(crate) static BAN: FormatSection = FormatSection {
    name: "Ban",
    called: "`ban`",
    doc: "A source whose handshakes fail repeatedly is banned: an IPv4 address, or the 64-bit \
          network of an IPv6 address.",
    keys: &[
        or(
            "failures",
            "20",
            Scalar(&COUNT),
            "5",
            "Number of failed handshakes that leads to a ban.",
        ),
        or("within", "10s", TIME, "30s", "Time within which they fail."),
        or("for", "60s", TIME, "10m", "Duration of a ban."),
        may(
            "never",
            "none",
            List(&Scalar(&PREFIX)),
            "[192.0.2.0/24]",
            "Sources that are never banned, such as a network that honest clients share with \
             others: IP addresses, or prefixes such as `192.0.2.0/24`.",
        ),
    ],
    rule: None,
};

pub(crate) static ADMIN: FormatSection = FormatSection {
    name: "Admin",
    called: "`admin`",
    doc: "Interface for operators of the running gateway.",
    keys: &[need(
        "socket",
        Scalar(&PATH),
        "/run/portcullis/admin.sock",
        "The path of a unix socket that speaks HTTP, for `portcullis upgrade`. Its mode is 0660.",
    )],
    rule: None,
};

pub(crate) static LIMITS: FormatSection = FormatSection {
    name: "Limits",
    called: "`limits`",
    doc: "Limits of the gateway. Over a limit, a new connection is refused; for a new silent \
          connection, an older one is closed.",
    keys: &[
        quota(
            "connections",
            "100000",
            "50000",
            "Limit of open connections.",
        ),
        quota(
            "silent",
            "20000",
            "5000",
            "Limit of connections that have not sent a complete `ClientHello`. Over it, and when \
             file descriptors run out, the oldest connection of the source that has most is \
             closed.",
        ),
        quota(
            "handshakes",
            "2000",
            "500",
            "Limit of handshakes in flight; a handshake begins with a complete `ClientHello`. At \
             the limit, one that is older than a second is closed for a source that has fewer.",
        ),
        quota(
            "handshakes_per_source",
            "100",
            "20",
            "Limit of handshakes in flight from one IPv4 address or 64-bit network of IPv6.",
        ),
        may(
            "memory",
            "no further limit",
            Scalar(&SIZE),
            "4GiB",
            "Limit of the process's memory. Over it, silent connections are closed and new \
             clients are reset. Unless it is `unlimited`, a tenth of the limit of the control \
             group (version 2) and a fiftieth of the machine's memory always stay free.",
        ),
    ],
    rule: None,
};

const fn quota(
    name: &'static str,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> FormatKey {
    or(name, default, Scalar(&QUOTA), example, doc)
}

pub(crate) static TIMEOUTS: FormatSection = FormatSection {
    name: "Timeouts",
    called: "`timeouts`",
    doc: "Time limits.",
    keys: &[
        or(
            "handshake",
            "10s",
            TIME,
            "5s",
            "Time from accept to the end of the handshake.",
        ),
        or(
            "connect",
            "3s",
            TIME,
            "1s",
            "Time for one dial to an upstream.",
        ),
        or(
            "idle",
            "1h",
            TIME_LIMIT,
            "10m",
            "Longest time without a byte in either direction. A side that still takes what it was \
             sent, however slowly, is not idle.",
        ),
        or(
            "half_closed",
            "1m",
            TIME_LIMIT,
            "5m",
            "Longest time without a byte after one side has ended its direction, if the other is \
             not known to be gone. A third of it if the upstream has ended.",
        ),
        or(
            "stall",
            "5m",
            TIME_LIMIT,
            "unlimited",
            "Longest time in which a side takes none of the bytes that wait for it.",
        ),
        or(
            "keepalive",
            "1m",
            TIME,
            "30s",
            "Silence after which a peer is probed (TCP keepalive). The connection ends after as \
             long again without an answer. The value of a group may not be longer.",
        ),
        or(
            "lifetime",
            "unlimited",
            TIME_LIMIT,
            "1d",
            "Longest duration of a connection.",
        ),
        or(
            "lifetime_jitter",
            "10%",
            Scalar(&PERCENT),
            "20%",
            "Share by which lifetimes are shortened at random, so that connections do not end all \
             at once.",
        ),
        or(
            "drain",
            "5m",
            TIME,
            "1m",
            "Time from the start of a drain until connections that are still open are cut off.",
        ),
    ],
    rule: None,
};
