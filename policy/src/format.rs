//! Format of the policy's file: each key once, with its description, its kind and its default.
//!
//! These tables determine the accepted keys, the defaults, the hints for a mistyped key, and the
//! JSON schema. The kinds of scalars are defined next to their parsers.

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

/// Mapping with a fixed set of keys.
#[derive(Debug)]
pub(super) struct FormatSection {
    /// Name in the schema.
    pub(super) name: &'static str,
    /// Name in messages.
    pub(super) called: &'static str,
    /// Description in the schema.
    pub(super) doc: &'static str,
    /// Keys, in the order in which messages list them.
    pub(super) keys: &'static [FormatKey],
    /// Rule about several keys, as a JSON schema that applies in addition to those of the keys.
    pub(super) rule: Option<fn() -> Value>,
}

impl FormatSection {
    /// Returns the key with this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static FormatKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Iterates over the names of all keys, in the order of the table.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// Returns true if an absent value may mean an empty mapping, which requires that no key is
    /// required.
    fn may_be_empty(&self) -> bool {
        self.keys
            .iter()
            .all(|key| key.default != KeyDefault::Required)
    }
}

/// One key of a [`FormatSection`].
#[derive(Debug)]
pub(super) struct FormatKey {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) kind: ValueKind,
    pub(super) default: KeyDefault,
}

/// Meaning of an absent key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyDefault {
    /// The key is required: without it the policy is refused.
    Required,
    /// Default: the key means the same as with this text.
    Text(&'static str),
    /// No value; the description of the key says what that means.
    None,
}

/// Creates a key that is required.
const fn need(name: &'static str, kind: ValueKind, doc: &'static str) -> FormatKey {
    let usual = KeyDefault::Required;
    FormatKey {
        name,
        doc,
        kind,
        default: usual,
    }
}

/// Creates a key with a default.
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

/// Creates a key whose absence differs from every value.
const fn may(name: &'static str, kind: ValueKind, doc: &'static str) -> FormatKey {
    let usual = KeyDefault::None;
    FormatKey {
        name,
        doc,
        kind,
        default: usual,
    }
}

/// Form of a key's value.
#[derive(Debug)]
pub(super) enum ValueKind {
    Scalar(&'static ScalarFormat),
    /// One of a few words, each with its description.
    Words(&'static [(&'static str, &'static str)]),
    Section(&'static FormatSection),
    /// A mapping from names of this kind to sections; an absent value is an empty mapping.
    Named(&'static ScalarFormat, &'static FormatSection),
    /// A list of at least one value, without duplicates.
    List(&'static ValueKind),
    /// A list of any number of sections; an absent value is an empty list.
    Sections(&'static FormatSection),
    /// A value of one of several kinds.
    Either(&'static [ValueKind]),
}

/// Kind of scalar.
#[derive(Debug)]
pub(super) struct ScalarFormat {
    /// Name in the schema.
    pub(super) name: &'static str,
    /// Description and notation, for the schema.
    pub(super) doc: &'static str,
    /// JSON schema of a value.
    pub(super) schema: fn() -> Value,
}
