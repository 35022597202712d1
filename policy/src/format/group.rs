//! Keys of a group and of the sections in it.

use serde_json::json;

use super::kinds::ValueKind::{Either, List, Scalar, Words};
use super::kinds::{FormatSection, ValueKind, may, need, or};
use crate::duration::{DURATION, DURATION_LIMIT};
use crate::fields::address::UPSTREAM_ADDRESS;
use crate::fields::number::{COUNT, FLAG, PERCENT, PORT, QUOTA};
use crate::fields::protocol::PROTOCOL;
use crate::fields::text::{BYTES, FILLED_BYTES};
use crate::name::{PROBED_NAME, SNI_NAME};

const TIME: ValueKind = Scalar(&DURATION);
const TIME_LIMIT: ValueKind = Scalar(&DURATION_LIMIT);

pub(crate) static GROUP: FormatSection = FormatSection {
    name: "Group",
    called: "a group",
    doc: "A set of interchangeable upstreams. A connection goes to the healthy upstream that has \
          the fewest connections for its weight.",
    keys: &[
        may(
            "sni",
            "the group's own name",
            List(&Scalar(&SNI_NAME)),
            r#"[ui.example.test, "*.ui.example.test"]"#,
            "The names by which clients ask for the group: DNS names, or `*.` and a name for all \
             names below it, however deep. An exact name wins over a wildcard, a longer wildcard \
             over a shorter.",
        ),
        may(
            "ports",
            "none",
            List(&Scalar(&PORT)),
            "[5432]",
            "The destination ports by which clients without SNI reach the group.",
        ),
        need(
            "upstreams",
            List(&Either(&[
                Scalar(&UPSTREAM_ADDRESS),
                ValueKind::Section(&UPSTREAM),
            ])),
            r#"["10.0.0.1:9001", {address: "10.0.0.2:9001", weight: 2}]"#,
            "The upstreams of the group.",
        ),
        may(
            "health",
            "the defaults of its keys",
            ValueKind::Section(&HEALTH),
            "{check: tls, interval: 2s}",
            "Health checks of the upstreams.",
        ),
        may(
            "proxy_protocol",
            "no header",
            PROXY_PROTOCOL,
            "v2",
            "The header before the client's bytes that tells upstreams the client's addresses and \
             name, the name that it asked for, ALPN and the cipher.",
        ),
        may(
            "alpn",
            "none is chosen, and no client is refused for what it offers",
            List(&Scalar(&PROTOCOL)),
            "[h2, http/1.1]",
            "The application protocols (ALPN) that clients may choose from. A client gets the \
             first one of its own list that is in this list. A client that offers some and none \
             of these is refused with `no_application_protocol`; one that offers none is welcome.",
        ),
        or(
            "max_connections",
            "unlimited",
            Scalar(&QUOTA),
            "500",
            "Limit of open connections of all clients together.",
        ),
        or(
            "when_all_down",
            "refuse",
            WHEN_ALL_DOWN,
            "try_all",
            "What happens without a healthy upstream.",
        ),
        may(
            "timeouts",
            "the gateway's",
            ValueKind::Section(&GROUP_TIMEOUTS),
            "{idle: 10m}",
            "Time limits that replace those of the gateway.",
        ),
        or(
            "tries",
            "3",
            Scalar(&COUNT),
            "2",
            "Number of upstreams that are dialed for one connection.",
        ),
    ],
    rule: None,
};

const PROXY_PROTOCOL: ValueKind =
    Words(&[("v2", "The binary header of PROXY protocol version 2.")]);

const WHEN_ALL_DOWN: ValueKind = Words(&[
    ("refuse", "Clients are refused."),
    (
        "try_all",
        "All upstreams are tried as if they were healthy, for probes that may be wrong.",
    ),
]);

pub(crate) static UPSTREAM: FormatSection = FormatSection {
    name: "Upstream",
    called: "an upstream",
    doc: "An address with further settings.",
    keys: &[
        need(
            "address",
            Scalar(&UPSTREAM_ADDRESS),
            "10.0.0.2:9001",
            "An IP address with a port.",
        ),
        or(
            "weight",
            "1",
            Scalar(&COUNT),
            "2",
            "Share of the connections, relative to the other upstreams: one of weight 2 gets \
             twice the connections.",
        ),
        or(
            "backup",
            "false",
            Scalar(&FLAG),
            "true",
            "Whether the upstream serves only while no other is healthy.",
        ),
        or(
            "state",
            "ready",
            STATE,
            "drain",
            "The state that the operator sets. A log event says when an upstream that gets no new \
             connection has lost its last one, so that it can be switched off.",
        ),
    ],
    rule: None,
};

const STATE: ValueKind = Words(&[
    ("ready", "It serves."),
    ("drain", "It gets no new connection, and is still probed."),
    ("maint", "It gets no new connection and no probe."),
]);

pub(crate) static HEALTH: FormatSection = FormatSection {
    name: "Health",
    called: "`health`",
    doc: "Health checks of upstreams.",
    keys: &[
        or("check", "tcp", CHECK, "tls", "What a probe tests."),
        may(
            "sni",
            "the group's first name that is not a wildcard",
            Scalar(&PROBED_NAME),
            "db.example.test",
            "The name that a `tls` check asks for.",
        ),
        or(
            "interval",
            "5s",
            TIME,
            "2s",
            "Time from one probe to the next.",
        ),
        or("timeout", "1s", TIME, "500ms", "Time limit of one probe."),
        or(
            "rise",
            "2",
            Scalar(&COUNT),
            "1",
            "Probes that must pass in a row before an upstream is up again. For an upstream that \
             was not probed yet, one is enough.",
        ),
        or(
            "fall",
            "3",
            Scalar(&COUNT),
            "2",
            "Probes that must fail in a row before an upstream is down.",
        ),
        or(
            "jitter",
            "10%",
            Scalar(&PERCENT),
            "20%",
            "The share by which intervals differ.",
        ),
        or(
            "on_down",
            "keep",
            ON_DOWN,
            "cut",
            "What happens to the connections of an upstream that goes down.",
        ),
    ],
    rule: Some(|| {
        json!({
            "if": {"required": ["sni"]},
            "then": {"properties": {"check": {"const": "tls"}}, "required": ["check"]},
        })
    }),
};

const CHECK: ValueKind = Either(&[
    Words(&[
        ("tcp", "That an upstream accepts a connection."),
        (
            "tls",
            "That it completes a handshake of TLS 1.2 or 1.3; its certificate is not verified.",
        ),
        (
            "off",
            "Nothing; upstreams count as healthy until connections for clients fail.",
        ),
    ]),
    ValueKind::Section(&SEND_EXPECT),
]);

const ON_DOWN: ValueKind = Words(&[("keep", "They go on."), ("cut", "They are reset.")]);

pub(crate) static SEND_EXPECT: FormatSection = FormatSection {
    name: "SendExpect",
    called: "`check`",
    doc: "That an upstream answers. Each character is one byte, so `\"\\xd2\"` is the byte 0xd2.",
    keys: &[
        need(
            "send",
            Scalar(&BYTES),
            r#""PING\r\n""#,
            "Bytes to send; may be empty.",
        ),
        need(
            "expect",
            Scalar(&FILLED_BYTES),
            "+PONG",
            "Bytes that the answer must begin with.",
        ),
    ],
    rule: None,
};

pub(crate) static GROUP_TIMEOUTS: FormatSection = FormatSection {
    name: "GroupTimeouts",
    called: "`timeouts` of a group",
    doc: "Time limits of a group, which replace those of the gateway.",
    keys: &[
        may(
            "connect",
            "the gateway's",
            TIME,
            "1s",
            "Time for one dial to an upstream.",
        ),
        may(
            "idle",
            "the gateway's",
            TIME_LIMIT,
            "10m",
            "Longest time without a byte in either direction.",
        ),
        may(
            "half_closed",
            "the gateway's",
            TIME_LIMIT,
            "5m",
            "Longest time without a byte after one side has ended its direction.",
        ),
        may(
            "stall",
            "the gateway's",
            TIME_LIMIT,
            "unlimited",
            "Longest time in which a side takes none of the bytes that wait for it.",
        ),
        may(
            "keepalive",
            "the gateway's",
            TIME,
            "30s",
            "Silence after which a peer is probed (TCP keepalive); at most the gateway's value.",
        ),
        may(
            "lifetime",
            "the gateway's",
            TIME_LIMIT,
            "1d",
            "Longest duration of a connection.",
        ),
    ],
    rule: None,
};
