//! The format of the policy's file: each key once, with its meaning, its kind and its default.
//!
//! From these tables come the keys that are accepted, the defaults that are read, the hints for a
//! mistyped key, and the JSON schema. The kinds of scalars stand beside their parsers.

use serde_json::Value;

mod client;
mod gateway;
mod group;
pub(super) mod schema;
#[cfg(test)]
mod tests;

pub(super) use client::{CLIENT, DOCUMENT, TEST, WAIT};
pub(super) use gateway::{ADMIN, BAN, GATEWAY, LIMITS, STEER, TIMEOUTS, TLS, WORKERS};
pub(super) use group::{GROUP, GROUP_TIMEOUTS, HEALTH, SEND_EXPECT, UPSTREAM};

/// A mapping with a fixed set of keys.
#[derive(Debug)]
pub(super) struct FormatSection {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// What messages call it.
    pub(super) called: &'static str,
    /// What it is.
    pub(super) doc: &'static str,
    /// Its keys, in the order in which messages list them.
    pub(super) keys: &'static [FormatKey],
    /// A rule about several keys, as a JSON schema that holds beside the keys' own.
    pub(super) rule: Option<fn() -> Value>,
}

impl FormatSection {
    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static FormatKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of all keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether nothing at all stands for an empty mapping: only where no key must be there.
    fn may_be_empty(&self) -> bool {
        self.keys
            .iter()
            .all(|key| key.default != KeyDefault::Required)
    }
}

/// One key of a section.
#[derive(Debug)]
pub(super) struct FormatKey {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) kind: ValueKind,
    pub(super) default: KeyDefault,
}

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyDefault {
    /// The policy is refused.
    Required,
    /// The same as if this text were written.
    Text(&'static str),
    /// What the key's description says.
    None,
}

/// A key that must be there.
const fn need(name: &'static str, kind: ValueKind, doc: &'static str) -> FormatKey {
    let usual = KeyDefault::Required;
    FormatKey {
        name,
        doc,
        kind,
        default: usual,
    }
}

/// A key with a default.
const fn or(
    name: &'static str,
    default: &'static str,
    kind: ValueKind,
    doc: &'static str,
) -> FormatKey {
    let usual = KeyDefault::Text(default);
    FormatKey {
        name,
        doc,
        kind,
        default: usual,
    }
}

/// A key that may be absent, which is not the same as any value.
const fn may(name: &'static str, kind: ValueKind, doc: &'static str) -> FormatKey {
    let usual = KeyDefault::None;
    FormatKey {
        name,
        doc,
        kind,
        default: usual,
    }
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum ValueKind {
    Scalar(&'static ScalarFormat),
    /// One of a few words, each with what it means.
    Words(&'static [(&'static str, &'static str)]),
    Section(&'static FormatSection),
    /// Names of this kind, and a section for each; nothing at all is none.
    Named(&'static ScalarFormat, &'static FormatSection),
    /// At least one, none twice.
    List(&'static ValueKind),
    /// Any number of sections; nothing at all is none.
    Sections(&'static FormatSection),
    /// One of several kinds.
    Either(&'static [ValueKind]),
}

/// A kind of scalar.
#[derive(Debug)]
pub(super) struct ScalarFormat {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// What it is and how it is written.
    pub(super) doc: &'static str,
    /// Its JSON schema.
    pub(super) schema: fn() -> Value,
}
