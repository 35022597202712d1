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
    doc: "A set of interchangeable upstreams. A connection goes to the one with the fewest connections over its weight among those that are healthy.",
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
            "Where its connections go.",
        ),
        may(
            "health",
            ValueKind::Section(&HEALTH),
            "How its upstreams are probed.",
        ),
        may(
            "proxy_protocol",
            PROXY_PROTOCOL,
            "Whether upstreams are told who the client is. Without it they are not.",
        ),
        may(
            "alpn",
            List(&Scalar(&PROTOCOL)),
            "The application protocols (ALPN) that clients may choose from. Without it none is agreed on, and no client is refused for what it offers.",
        ),
        or(
            "max_connections",
            "unlimited",
            Scalar(&QUOTA),
            "Connections of all clients together.",
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
            "What it has instead of the gateway's timeouts.",
        ),
        or(
            "tries",
            "3",
            Scalar(&COUNT),
            "How many upstreams are dialed for one connection.",
        ),
    ],
    rule: None,
};

const PROXY_PROTOCOL: ValueKind =
    Words(&[("v2", "By the binary header of PROXY protocol version 2.")]);

const WHEN_ALL_DOWN: ValueKind = Words(&[
    ("refuse", "Clients are turned away."),
    ("try_all", "All are tried as if they were healthy."),
]);

pub(crate) static UPSTREAM: FormatSection = FormatSection {
    name: "Upstream",
    called: "an upstream",
    doc: "An address and what else there is to say about it.",
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
        or("state", "ready", STATE, "What the operator wants of it."),
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
    doc: "How upstreams are probed.",
    keys: &[
        or("check", "tcp", CHECK, "What a probe asks."),
        may(
            "sni",
            Scalar(&PROBED_NAME),
            "The name that a `tls` check asks for. Without it: the group's first name that is not a wildcard.",
        ),
        or("interval", "5s", TIME, "From one probe to the next."),
        or("timeout", "1s", TIME, "How long one probe may take."),
        or(
            "rise",
            "2",
            Scalar(&COUNT),
            "Passes to come up again; the first one suffices for an upstream of which nothing is known yet.",
        ),
        or("fall", "3", Scalar(&COUNT), "Failures to go down."),
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
            "What becomes of the connections of an upstream that goes down.",
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

const ON_DOWN: ValueKind = Words(&[
    ("keep", "They go on as long as they can."),
    ("cut", "They are reset."),
]);

pub(crate) static SEND_EXPECT: FormatSection = FormatSection {
    name: "SendExpect",
    called: "`check`",
    doc: "That an upstream answers. Each character is one byte, so `\"\\xd2\"` is the byte 0xd2.",
    keys: &[
        need("send", Scalar(&BYTES), "What is sent; may be empty."),
        need(
            "expect",
            Scalar(&FILLED_BYTES),
            "What the answer must begin with.",
        ),
    ],
    rule: None,
};

pub(crate) static GROUP_TIMEOUTS: FormatSection = FormatSection {
    name: "GroupTimeouts",
    called: "`timeouts` of a group",
    doc: "What a group has instead of the gateway's timeouts.",
    keys: &[
        may("connect", TIME, "One dial to an upstream."),
        may("idle", TIME_LIMIT, "Without a byte in either direction."),
        may(
            "half_closed",
            TIME_LIMIT,
            "Without a byte, of a connection of which one side has ended.",
        ),
        may(
            "stall",
            TIME_LIMIT,
            "Without a side taking anything while bytes wait for it.",
        ),
        may(
            "keepalive",
            TIME,
            "Before a silent peer is asked whether it is still there; at most what the gateway has.",
        ),
        may("lifetime", TIME_LIMIT, "A whole connection."),
    ],
    rule: None,
};
