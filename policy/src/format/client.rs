//! Keys of the document, of a client and of a test.

use serde_json::json;

use super::gateway::GATEWAY;
use super::group::GROUP;
use super::kinds::ValueKind::{Either, List, Named, Scalar, Words};
use super::kinds::{FormatSection, ValueKind, may, need, or};
use crate::duration::DURATION;
use crate::fields::number::{PORT, QUOTA, VERSION};
use crate::fields::text::{NAME, TEXT};
use crate::rate::RATE;

pub(crate) static DOCUMENT: FormatSection = FormatSection {
    name: "Document",
    called: "the policy",
    doc: "Policy of Portcullis: which client may reach which group, and within which limits.",
    keys: &[
        need(
            "version",
            Scalar(&VERSION),
            "1",
            "The version of this format: 1.",
        ),
        need(
            "gateway",
            ValueKind::Section(&GATEWAY),
            "{listen: [\"[::]:8443\"], tls: {certificate: server.crt, key: server.key, client_ca: \
             ca.crt}}",
            "Settings of the whole gateway.",
        ),
        need(
            "groups",
            Named(&NAME, &GROUP),
            r#"{ledger.example.test: {upstreams: ["10.0.0.11:5432"]}}"#,
            "Sets of interchangeable upstreams, by name.",
        ),
        need(
            "clients",
            Named(&NAME, &CLIENT),
            "{billing: {groups: [ledger.example.test]}}",
            "The clients, by the common name of their certificates. What is not granted is \
             refused.",
        ),
        may(
            "tests",
            "none",
            ValueKind::Sections(&TEST),
            "[{client: billing, sni: ledger.example.test, expect: allow}]",
            "Tests of this policy. A policy whose tests fail is not applied.",
        ),
    ],
    rule: None,
};

pub(crate) static CLIENT: FormatSection = FormatSection {
    name: "Client",
    called: "a client",
    doc: "Grants and limits of one client.",
    keys: &[
        need(
            "groups",
            List(&Scalar(&NAME)),
            "[ledger.example.test]",
            "The groups that the client may reach.",
        ),
        or(
            "max_connections",
            "unlimited",
            Scalar(&QUOTA),
            "10",
            "Limit of open connections, over all processes of the gateway.",
        ),
        or(
            "when_full",
            "reset",
            WHEN_FULL,
            "{wait: 5s}",
            "What happens to a connection over this limit.",
        ),
        may(
            "rate",
            "no limit",
            Scalar(&RATE),
            "5/s",
            "Limit of new connections per time, which holds for those that wait, too.",
        ),
    ],
    rule: Some(|| {
        json!({
            "if": {
                "required": ["when_full"],
                "properties": {"when_full": {"type": "object"}},
            },
            "then": {
                "required": ["max_connections"],
                "properties": {"max_connections": {"type": "integer"}},
            },
        })
    }),
};

const WHEN_FULL: ValueKind = Either(&[
    Words(&[("reset", "It is reset.")]),
    ValueKind::Section(&WAIT),
]);

pub(crate) static WAIT: FormatSection = FormatSection {
    name: "Wait",
    called: "`when_full`",
    doc: "It waits for one of the client's connections to end.",
    keys: &[need(
        "wait",
        Scalar(&DURATION),
        "5s",
        "Longest wait; then the connection is reset. As many connections may wait as may be open; \
         further ones are reset.",
    )],
    rule: None,
};

pub(crate) static TEST: FormatSection = FormatSection {
    name: "Test",
    called: "a test",
    doc: "One test of the policy.",
    keys: &[
        need(
            "client",
            Scalar(&NAME),
            "billing",
            "The client's name; it need not be in the policy.",
        ),
        may(
            "sni",
            "none; the port decides",
            Scalar(&TEXT),
            "ledger.example.test",
            "The name that the client asks for (SNI).",
        ),
        may(
            "port",
            "the first that the gateway listens on",
            Scalar(&PORT),
            "5432",
            "The destination port.",
        ),
        need(
            "expect",
            EXPECT,
            "allow",
            "The decision that the policy must make.",
        ),
        may(
            "group",
            "any group",
            Scalar(&TEXT),
            "ledger.example.test",
            "The group that must be reached, with `expect: allow`.",
        ),
    ],
    rule: Some(|| {
        json!({
            "if": {"required": ["group"]},
            "then": {"properties": {"expect": {"const": "allow"}}},
        })
    }),
};

const EXPECT: ValueKind = Words(&[
    ("allow", "The client is admitted."),
    ("deny", "The client is refused."),
]);
