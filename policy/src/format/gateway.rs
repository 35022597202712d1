//! Keys of `gateway:` and of the sections in it.

use serde_json::json;

use super::kinds::ValueKind::{Either, List, Scalar, Words};
use super::kinds::{FormatSection, ValueKind, may, need, or};
use super::limits::{LIMITS, TIMEOUTS};
use crate::duration::DURATION;
use crate::fields::address::{LISTEN, PORT_RANGE, PREFIX};
use crate::fields::number::{COUNT, FLAG, PORT};
use crate::fields::text::PATH;
use crate::worker_count::{MOST_STEERED_WORKERS, WORKER_COUNT};

const TIME: ValueKind = Scalar(&DURATION);

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
            "access_log",
            "the defaults of its keys",
            ValueKind::Section(&ACCESS_LOG),
            "{opened: false}",
            "The access records that are written.",
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
        "The path of a unix socket that speaks HTTP, for `portcullis status`, `upgrade` and others. Its mode is 0660.",
    )],
    rule: None,
};

pub(crate) static ACCESS_LOG: FormatSection = FormatSection {
    name: "AccessLog",
    called: "`access_log`",
    doc: "The access records that are written. `run --access-log` says where.",
    keys: &[or(
        "opened",
        "true",
        Scalar(&FLAG),
        "false",
        "Whether a record is written when a connection opens, beside the one when it closes.",
    )],
    rule: None,
};
