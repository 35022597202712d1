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
            "The version of this format: 1.",
        ),
        need(
            "gateway",
            ValueKind::Section(&GATEWAY),
            "Settings of the whole gateway.",
        ),
        need(
            "groups",
            Named(&NAME, &GROUP),
            "Sets of interchangeable upstreams, by name.",
        ),
        need(
            "clients",
            Named(&NAME, &CLIENT),
            "The clients, by the common name of their certificates. What is not granted is \
             refused.",
        ),
        may(
            "tests",
            ValueKind::Sections(&TEST),
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
            "The groups that it may reach.",
        ),
        or(
            "max_connections",
            "unlimited",
            Scalar(&QUOTA),
            "Limit of open connections.",
        ),
        or(
            "when_full",
            "reset",
            WHEN_FULL,
            "What happens to a connection over this limit.",
        ),
        may(
            "rate",
            Scalar(&RATE),
            "Limit of new connections per time, which holds for those that wait, too. Without it: \
             no limit.",
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
        "Longest wait. As many connections may wait as may be open; further ones are reset.",
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
            "The client's name; it need not be in the policy.",
        ),
        may(
            "sni",
            Scalar(&TEXT),
            "The name that it asks for (SNI). Without it: none; the port decides.",
        ),
        may(
            "port",
            Scalar(&PORT),
            "The destination port. Without it: the first that the gateway listens on.",
        ),
        need("expect", EXPECT, "The decision that the policy must make."),
        may(
            "group",
            Scalar(&TEXT),
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
