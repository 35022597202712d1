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
            "The addresses that the gateway listens on: IP addresses with ports.",
        ),
        may(
            "listen_retry",
            TIME,
            "Time for which a start tries again while an address of `listen` is in use or not \
             available. Without it: a start fails at once.",
        ),
        or(
            "freebind",
            "false",
            Scalar(&FLAG),
            "Whether `listen` may have addresses that no interface has yet.",
        ),
        need("tls", ValueKind::Section(&TLS), "The files for mutual TLS."),
        may(
            "steer",
            ValueKind::Section(&STEER),
            "Further ports, which the kernel steers to the gateway. Without it: none.",
        ),
        may(
            "ban",
            ValueKind::Section(&BAN),
            "Bans: sources that the kernel refuses for a while, on steered ports. Without it: \
             none.",
        ),
        may(
            "admin",
            ValueKind::Section(&ADMIN),
            "Interface for operators of the running gateway. Without it: none.",
        ),
        may(
            "limits",
            ValueKind::Section(&LIMITS),
            "Limits of the gateway.",
        ),
        may("timeouts", ValueKind::Section(&TIMEOUTS), "Time limits."),
        or(
            "on_revoke",
            "cut",
            ON_REVOKE,
            "What happens to a connection whose client, grant or certificate is no longer valid.",
        ),
        may(
            "workers",
            Either(&[Scalar(&WORKER_COUNT), ValueKind::Section(&WORKERS)]),
            "Number of workers, and the processors that they run on. Without it: one for each \
             processor.",
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
            Scalar(&WORKER_COUNT),
            "Number of workers. Without it: one for each processor that the process may use.",
        ),
        or(
            "affinity",
            "off",
            AFFINITY,
            "Whether each worker stays on one of the processors that the process may use.",
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
    ("cut", "It ends at once."),
    ("drain", "It ends within the time of a drain."),
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
            "The gateway's certificate with its chain, PEM.",
        ),
        need("key", Scalar(&PATH), "The certificate's private key, PEM."),
        need(
            "client_ca",
            Scalar(&PATH),
            "The authorities that sign clients' certificates, PEM.",
        ),
        may(
            "crl",
            Either(&[Scalar(&PATH), List(&Scalar(&PATH))]),
            "Revocation lists, PEM: one path or several. Without it nothing is revoked.",
        ),
        or(
            "expired_crl",
            "refuse",
            EXPIRED_CRL,
            "What happens when a revocation list has expired.",
        ),
    ],
    rule: None,
};

const EXPIRED_CRL: ValueKind = Words(&[
    (
        "refuse",
        "Clients of its authority are refused until there is a newer list.",
    ),
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
            "What happens if the kernel cannot steer.",
        ),
        may(
            "ports",
            List(&Either(&[Scalar(&PORT), Scalar(&PORT_RANGE)])),
            "The ports: numbers, or ranges such as `7000-7100`. Without it: those of groups only.",
        ),
        may(
            "addresses",
            List(&Scalar(&PREFIX)),
            "Destination addresses: IP addresses, or prefixes such as `192.0.2.0/24`. Without it: \
             all.",
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
            "Number of failed handshakes that leads to a ban.",
        ),
        or("within", "10s", TIME, "Time within which they fail."),
        or("for", "60s", TIME, "Duration of a ban."),
        may(
            "never",
            List(&Scalar(&PREFIX)),
            "Sources that are never banned: IP addresses, or prefixes such as `192.0.2.0/24`. \
             Without it: none.",
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
        "The path of a unix socket that speaks HTTP. A relative path starts at the policy's \
         directory.",
    )],
    rule: None,
};

pub(crate) static LIMITS: FormatSection = FormatSection {
    name: "Limits",
    called: "`limits`",
    doc: "Limits of the gateway. Over a limit, a new connection is refused; for a new silent \
          connection, an older one is closed.",
    keys: &[
        quota("connections", "100000", "Limit of open connections."),
        quota(
            "silent",
            "20000",
            "Limit of connections that have not sent a complete `ClientHello`. Over it, and when \
             file descriptors run out, the oldest connection of the source that has most is \
             closed.",
        ),
        quota(
            "handshakes",
            "2000",
            "Limit of handshakes in flight; a handshake begins with a complete `ClientHello`. At \
             the limit, one that is older than a second is closed for a source that has fewer.",
        ),
        quota(
            "handshakes_per_source",
            "100",
            "Limit of handshakes in flight from one IPv4 address or 64-bit network of IPv6.",
        ),
        may(
            "memory",
            Scalar(&SIZE),
            "Limit of the process's memory. Over it, silent connections are closed and new clients \
             are reset. Unless it is `unlimited`, a tenth of the control group's limit and a \
             fiftieth of the machine's memory always stay free. Without it: only these shares stay \
             free.",
        ),
    ],
    rule: None,
};

const fn quota(name: &'static str, default: &'static str, doc: &'static str) -> FormatKey {
    or(name, default, Scalar(&QUOTA), doc)
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
            "From accept to the end of the handshake.",
        ),
        or("connect", "3s", TIME, "One dial to an upstream."),
        or(
            "idle",
            "1h",
            TIME_LIMIT,
            "Without a byte in either direction.",
        ),
        or(
            "half_closed",
            "1m",
            TIME_LIMIT,
            "Without a byte, after one side has ended its direction, if the other is not known to \
             be gone. If the upstream has ended, a third of it.",
        ),
        or(
            "stall",
            "5m",
            TIME_LIMIT,
            "Without progress, while bytes wait for a side that does not read.",
        ),
        or(
            "keepalive",
            "1m",
            TIME,
            "Silence after which a peer is probed (TCP keepalive). The connection ends after as \
             long again without an answer. The value of a group may not be longer.",
        ),
        or("lifetime", "unlimited", TIME_LIMIT, "A whole connection."),
        or(
            "lifetime_jitter",
            "10%",
            Scalar(&PERCENT),
            "The share by which lifetimes differ, so that connections do not end all at once.",
        ),
        or(
            "drain",
            "5m",
            TIME,
            "From the start of a drain until connections that are still open are cut off.",
        ),
    ],
    rule: None,
};
