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
    doc: "What holds for the whole gateway.",
    keys: &[
        need(
            "listen",
            List(&Scalar(&LISTEN)),
            "Where the gateway listens: IP addresses with ports.",
        ),
        may(
            "listen_retry",
            TIME,
            "How long a start tries again while an address of `listen` is in use or not there. Without it: it fails at once.",
        ),
        or(
            "freebind",
            "false",
            Scalar(&FLAG),
            "Whether `listen` may have addresses that no interface has yet.",
        ),
        need(
            "tls",
            ValueKind::Section(&TLS),
            "The files behind mutual TLS.",
        ),
        may(
            "steer",
            ValueKind::Section(&STEER),
            "The ports that the kernel is to hand to the gateway besides. Without it: none.",
        ),
        may(
            "ban",
            ValueKind::Section(&BAN),
            "Which sources the kernel turns away for a while, on steered ports. Without it: none.",
        ),
        may(
            "admin",
            ValueKind::Section(&ADMIN),
            "Where operators reach the running gateway. Without it: nowhere.",
        ),
        may(
            "limits",
            ValueKind::Section(&LIMITS),
            "How much of the gateway may be in use.",
        ),
        may(
            "timeouts",
            ValueKind::Section(&TIMEOUTS),
            "How long things may take.",
        ),
        or(
            "on_revoke",
            "cut",
            ON_REVOKE,
            "What happens to a connection whose client, grant or certificate is no longer good.",
        ),
        may(
            "workers",
            Either(&[Scalar(&WORKER_COUNT), ValueKind::Section(&WORKERS)]),
            "How many workers there are, and on which processors they run. Without it: one for each processor.",
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
            "How many. Without it: one for each processor that the process may use.",
        ),
        or(
            "affinity",
            "off",
            AFFINITY,
            "Whether each stays on one processor of those that the process may use.",
        ),
    ],
    rule: None,
};

const AFFINITY: ValueKind = Words(&[
    ("on", "Each worker stays on one processor."),
    ("off", "The kernel moves workers as it does other threads."),
]);

const ON_REVOKE: ValueKind = Words(&[
    ("cut", "It ends at once."),
    ("drain", "It ends within the drain's time."),
    ("keep", "It stays."),
]);

pub(crate) static TLS: FormatSection = FormatSection {
    name: "Tls",
    called: "`tls`",
    doc: "The files behind mutual TLS. Relative paths start at the policy's folder.",
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
            "What a revocation list that is out of date means.",
        ),
    ],
    rule: None,
};

const EXPIRED_CRL: ValueKind = Words(&[
    ("refuse", "Nobody gets in before there is a new one."),
    ("accept", "It still counts."),
]);

pub(crate) static STEER: FormatSection = FormatSection {
    name: "Steer",
    called: "`steer`",
    doc: "What the kernel steers to the gateway: these ports and those that groups own.",
    keys: &[
        or(
            "mode",
            "auto",
            STEER_MODE,
            "What it means that the kernel cannot.",
        ),
        may(
            "ports",
            List(&Either(&[Scalar(&PORT), Scalar(&PORT_RANGE)])),
            "The ports: numbers, or ranges such as `7000-7100`. Without it: those of groups only.",
        ),
        may(
            "addresses",
            List(&Scalar(&PREFIX)),
            "At which addresses: IP addresses, or prefixes such as `192.0.2.0/24`. Without it: at every one.",
        ),
    ],
    rule: None,
};

const STEER_MODE: ValueKind = Words(&[
    ("required", "The gateway does not start."),
    (
        "auto",
        "It says so and serves the addresses that it listens on.",
    ),
    ("off", "It does not try."),
]);

pub(crate) static BAN: FormatSection = FormatSection {
    name: "Ban",
    called: "`ban`",
    doc: "Sources that fail the handshake over and over are banned: an IPv4 address, or the 64-bit network of an IPv6 address.",
    keys: &[
        or(
            "failures",
            "20",
            Scalar(&COUNT),
            "How many failed handshakes it takes.",
        ),
        or("within", "10s", TIME, "Within which time."),
        or("for", "60s", TIME, "How long the ban lasts."),
        may(
            "never",
            List(&Scalar(&PREFIX)),
            "Whom it never concerns: IP addresses, or prefixes such as `192.0.2.0/24`. Without it: it concerns all.",
        ),
    ],
    rule: None,
};

pub(crate) static ADMIN: FormatSection = FormatSection {
    name: "Admin",
    called: "`admin`",
    doc: "Where operators reach the running gateway.",
    keys: &[need(
        "socket",
        Scalar(&PATH),
        "The path of a unix socket that speaks HTTP. A relative one starts at the policy's folder.",
    )],
    rule: None,
};

pub(crate) static LIMITS: FormatSection = FormatSection {
    name: "Limits",
    called: "`limits`",
    doc: "How much of the gateway may be in use. Over a limit, whoever comes is turned away; only silent connections give way.",
    keys: &[
        quota("connections", "100000", "Open connections."),
        quota(
            "silent",
            "20000",
            "Connections that have not sent a whole `ClientHello`. Over it, the oldest of the source that has most gives way; when descriptors run out, too.",
        ),
        quota(
            "handshakes",
            "2000",
            "Handshakes in flight, from a whole `ClientHello` on. When there are as many, one that is older than a second gives way to a source that has fewer.",
        ),
        quota(
            "handshakes_per_source",
            "100",
            "Handshakes in flight from one IPv4 address or IPv6 network of 64 bits.",
        ),
        may(
            "memory",
            Scalar(&SIZE),
            "What the process may have in memory; over it, silent connections give way and further clients are reset. In any case a tenth of its control group's limit and a fiftieth of the machine's memory are left, unless it is `unlimited`. Without it: no more than that.",
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
    doc: "How long things may take.",
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
            "Without a byte, of a connection of which one side has ended and the other is not known to be gone. When it is the upstream that has ended, a third of it.",
        ),
        or(
            "stall",
            "5m",
            TIME_LIMIT,
            "Without a side taking anything while bytes wait for it.",
        ),
        or(
            "keepalive",
            "1m",
            TIME,
            "Before a silent peer is asked whether it is still there; without an answer for as long again the connection ends. No group may ask less often.",
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
            "Between the order to stop and the end of what is still open.",
        ),
    ],
    rule: None,
};
