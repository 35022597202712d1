//! Reads values from the YAML tree and reports for each wrong one what was expected.

pub(crate) mod address;
mod list;
mod mapping;
pub(crate) mod number;
pub(crate) mod protocol;
pub(crate) mod text;
mod word;

pub(crate) use list::{list, list_by};
pub(crate) use mapping::{MappingFields, entries, usual};
pub(crate) use policy_yaml::{describe, quote};
pub(crate) use word::word;
