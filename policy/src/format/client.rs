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
    doc: "A policy of Portcullis: who may reach what, how often and how fast.",
    keys: &[
        need(
            "version",
            Scalar(&VERSION),
            "The version of this format: 1.",
        ),
        need(
            "gateway",
            ValueKind::Section(&GATEWAY),
            "What holds for the whole gateway.",
        ),
        need(
            "groups",
            Named(&NAME, &GROUP),
            "Sets of interchangeable upstreams, by name.",
        ),
        need(
            "clients",
            Named(&NAME, &CLIENT),
            "Who may come, by the common name of the certificate. What is not granted is refused.",
        ),
        may(
            "tests",
            ValueKind::Sections(&TEST),
            "What must be true of this policy. One that breaks its own tests is not applied.",
        ),
    ],
    rule: None,
};

pub(crate) static CLIENT: FormatSection = FormatSection {
    name: "Client",
    called: "a client",
    doc: "What one client is granted, and how much of it.",
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
            "Open connections.",
        ),
        or(
            "when_full",
            "reset",
            WHEN_FULL,
            "What happens to one more connection than these.",
        ),
        may(
            "rate",
            Scalar(&RATE),
            "How often it may come, whatever `when_full` says. Without it: as often as it likes.",
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
        "How long, at most. As many connections wait as may be open; further ones are reset.",
    )],
    rule: None,
};

pub(crate) static TEST: FormatSection = FormatSection {
    name: "Test",
    called: "a test",
    doc: "One promise about the policy.",
    keys: &[
        need(
            "client",
            Scalar(&NAME),
            "The client's name; it need not be in the policy.",
        ),
        may(
            "sni",
            Scalar(&TEXT),
            "The name that it asks for. Without it: none, so that the port decides.",
        ),
        may(
            "port",
            Scalar(&PORT),
            "The destination port. Without it: the first that the gateway listens on.",
        ),
        need("expect", EXPECT, "What the policy must say."),
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

const EXPECT: ValueKind = Words(&[("allow", "It gets in."), ("deny", "It does not.")]);
