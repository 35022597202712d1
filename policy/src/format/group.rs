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
            List(&Scalar(&SNI_NAME)),
            "The names by which clients ask for it: DNS names, or `*.` and a name for all names below it, however deep. An exact name wins over a wildcard, a longer wildcard over a shorter. Without it: the group's own name.",
        ),
        may(
            "ports",
            List(&Scalar(&PORT)),
            "The destination ports whose clients reach it without SNI. Without it: none.",
        ),
        need(
            "upstreams",
            List(&Either(&[
                Scalar(&UPSTREAM_ADDRESS),
                ValueKind::Section(&UPSTREAM),
            ])),
            "Its upstreams.",
        ),
        may(
            "health",
            ValueKind::Section(&HEALTH),
            "Health checks of its upstreams.",
        ),
        may(
            "proxy_protocol",
            PROXY_PROTOCOL,
            "The header that names the client to upstreams. Without it: none.",
        ),
        may(
            "alpn",
            List(&Scalar(&PROTOCOL)),
            "The application protocols (ALPN) that clients may choose from. Without it: none is \
             chosen, and no client is refused for what it offers.",
        ),
        or(
            "max_connections",
            "unlimited",
            Scalar(&QUOTA),
            "Limit of open connections of all clients together.",
        ),
        or(
            "when_all_down",
            "refuse",
            WHEN_ALL_DOWN,
            "What happens without a healthy upstream.",
        ),
        may(
            "timeouts",
            ValueKind::Section(&GROUP_TIMEOUTS),
            "Time limits that replace those of the gateway.",
        ),
        or(
            "tries",
            "3",
            Scalar(&COUNT),
            "Number of upstreams that are dialed for one connection.",
        ),
    ],
    rule: None,
};

const PROXY_PROTOCOL: ValueKind =
    Words(&[("v2", "The binary header of PROXY protocol version 2.")]);

const WHEN_ALL_DOWN: ValueKind = Words(&[
    ("refuse", "Clients are refused."),
    ("try_all", "All are tried as if they were healthy."),
]);

pub(crate) static UPSTREAM: FormatSection = FormatSection {
    name: "Upstream",
    called: "an upstream",
    doc: "An address with further settings.",
    keys: &[
        need(
            "address",
            Scalar(&UPSTREAM_ADDRESS),
            "An IP address with a port.",
        ),
        or(
            "weight",
            "1",
            Scalar(&COUNT),
            "Its share of the connections, relative to the others.",
        ),
        or(
            "backup",
            "false",
            Scalar(&FLAG),
            "Whether it serves only when no other is healthy.",
        ),
        or("state", "ready", STATE, "The state that the operator sets."),
    ],
    rule: None,
};

const STATE: ValueKind = Words(&[
    ("ready", "It serves."),
    ("drain", "It gets no new connection."),
    ("maint", "It gets no new connection and no probe."),
]);

pub(crate) static HEALTH: FormatSection = FormatSection {
    name: "Health",
    called: "`health`",
    doc: "Health checks of upstreams.",
    keys: &[
        or("check", "tcp", CHECK, "What a probe tests."),
        may(
            "sni",
            Scalar(&PROBED_NAME),
            "The name that a `tls` check asks for. Without it: the group's first name that is not a wildcard.",
        ),
        or("interval", "5s", TIME, "Time from one probe to the next."),
        or("timeout", "1s", TIME, "Time limit of one probe."),
        or(
            "rise",
            "2",
            Scalar(&COUNT),
            "Probes that must pass in a row before an upstream is up again. For an upstream that \
             was not probed yet, one is enough.",
        ),
        or(
            "fall",
            "3",
            Scalar(&COUNT),
            "Probes that must fail in a row before an upstream is \
                                         down.",
        ),
        or(
            "jitter",
            "10%",
            Scalar(&PERCENT),
            "The share by which intervals differ.",
        ),
        or(
            "on_down",
            "keep",
            ON_DOWN,
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
        ("tls", "That it completes a handshake of TLS 1.2 or 1.3."),
        ("off", "Nothing; upstreams count as healthy."),
    ]),
    ValueKind::Section(&SEND_EXPECT),
]);

const ON_DOWN: ValueKind = Words(&[("keep", "They go on."), ("cut", "They are reset.")]);

pub(crate) static SEND_EXPECT: FormatSection = FormatSection {
    name: "SendExpect",
    called: "`check`",
    doc: "That an upstream answers. Each character is one byte, so `\"\\xd2\"` is the byte 0xd2.",
    keys: &[
        need("send", Scalar(&BYTES), "Bytes to send; may be empty."),
        need(
            "expect",
            Scalar(&FILLED_BYTES),
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
        may("connect", TIME, "One dial to an upstream."),
        may("idle", TIME_LIMIT, "Without a byte in either direction."),
        may(
            "half_closed",
            TIME_LIMIT,
            "Without a byte, after one side has ended its direction.",
        ),
        may(
            "stall",
            TIME_LIMIT,
            "Without progress, while bytes wait for a side that does not read.",
        ),
        may(
            "keepalive",
            TIME,
            "Silence after which a peer is probed (TCP keepalive); at most the gateway's value.",
        ),
        may("lifetime", TIME_LIMIT, "A whole connection."),
    ],
    rule: None,
};
