//! Kinds of sections, keys and values, of which the tables of the format are made.

use serde_json::Value;

/// Mapping with a fixed set of keys.
#[derive(Debug)]
pub(crate) struct FormatSection {
    /// Name in the schema.
    pub(crate) name: &'static str,
    /// Name in messages.
    pub(crate) called: &'static str,
    /// Description in the schema.
    pub(crate) doc: &'static str,
    /// Keys, in the order in which messages list them.
    pub(crate) keys: &'static [FormatKey],
    /// Rule about several keys, as a JSON schema that applies in addition to those of the keys.
    pub(crate) rule: Option<fn() -> Value>,
}

impl FormatSection {
    /// Returns the key with this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static FormatKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Iterates over the names of all keys, in the order of the table.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// Returns true if an absent value may mean an empty mapping, which requires that no key is
    /// required.
    pub(super) fn may_be_empty(&self) -> bool {
        self.keys
            .iter()
            .all(|key| key.default != KeyDefault::Required)
    }
}

/// One key of a [`FormatSection`].
#[derive(Debug)]
pub(crate) struct FormatKey {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) kind: ValueKind,
    pub(crate) default: KeyDefault,
    /// One value of the key, as YAML in one line.
    pub(crate) example: &'static str,
}

/// Meaning of an absent key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyDefault {
    /// The key is required: without it the policy is refused.
    Required,
    /// Default: the key means the same as with this text.
    Text(&'static str),
    /// No value has the same meaning as an absent key; this describes it.
    Absent(&'static str),
}

/// Creates a key that is required.
pub(super) const fn need(
    name: &'static str,
    kind: ValueKind,
    example: &'static str,
    doc: &'static str,
) -> FormatKey {
    FormatKey {
        name,
        doc,
        kind,
        default: KeyDefault::Required,
        example,
    }
}

/// Creates a key with a default.
pub(super) const fn or(
    name: &'static str,
    default: &'static str,
    kind: ValueKind,
    example: &'static str,
    doc: &'static str,
) -> FormatKey {
    FormatKey {
        name,
        doc,
        kind,
        default: KeyDefault::Text(default),
        example,
    }
}

/// Creates a key whose absence differs from every value.
pub(super) const fn may(
    name: &'static str,
    absent: &'static str,
    kind: ValueKind,
    example: &'static str,
    doc: &'static str,
) -> FormatKey {
    FormatKey {
        name,
        doc,
        kind,
        default: KeyDefault::Absent(absent),
        example,
    }
}

/// Form of a key's value.
#[derive(Debug)]
pub(crate) enum ValueKind {
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
pub(crate) struct ScalarFormat {
    /// Name in the schema.
    pub(crate) name: &'static str,
    /// Types of the values in the reference, each in the singular.
    pub(crate) types: &'static [&'static str],
    /// Description and notation, for the schema.
    pub(crate) doc: &'static str,
    /// JSON schema of a value.
    pub(crate) schema: fn() -> Value,
}
