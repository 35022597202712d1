//! Names by which clients reach a group.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use thiserror::Error;

use crate::fields::address::ipv4_pattern;
use crate::fields::{self, quote};
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Largest number of characters of a DNS name as text (RFC 1035 2.3.4).
const LONGEST_NAME: usize = 253;
/// Largest number of characters of a label (RFC 1035 2.3.4).
const LONGEST_LABEL: usize = 63;

/// DNS name in lower case, or a wildcard for all names below one.
///
/// # Examples
///
/// ```
/// use policy::{SniName, SniNameError};
///
/// assert_eq!(SniName::new("UI.example.test")?, SniName::Exact("ui.example.test".into()));
/// assert_eq!(SniName::new("*.example.test")?, SniName::Below("example.test".into()));
/// assert_eq!(SniName::new("192.0.2.1"), Err(SniNameError::Address));
/// # Ok::<(), SniNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SniName {
    /// This name only.
    Exact(Arc<str>),
    /// Every name with at least one label before this suffix: `*.suffix`.
    Below(Arc<str>),
}

/// Reason why a text is not a valid [`SniName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SniNameError {
    /// The text or a label is empty.
    #[error("it has an empty label")]
    EmptyLabel,
    /// The text ends with a dot.
    #[error("it ends with a dot")]
    FinalDot,
    /// The text has more than 253 characters, including `*.`, or a label has more than 63.
    #[error("it is longer than 253 characters, or one label is longer than 63")]
    TooLong,
    /// The text contains this character, which is not an ASCII letter, a digit, `-` or `_`.
    #[error("it contains {0:?}")]
    Character(char),
    /// A label starts or ends with `-`.
    #[error("a label starts or ends with `-`")]
    OuterHyphen,
    /// The text is an IP address, which clients cannot send as SNI.
    #[error("it is an IP address, which clients do not send as a name")]
    Address,
}

impl SniName {
    /// Parses a name, or `*.` and a name, in any case.
    ///
    /// # Errors
    ///
    /// The first rule of a DNS name that the text breaks.
    pub fn new(text: &str) -> Result<Self, SniNameError> {
        // A longer wildcard would leave no room for a name below it.
        if text.len() > LONGEST_NAME {
            return Err(SniNameError::TooLong);
        }
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix("*.") {
            Some(suffix) => check(suffix).map(|()| Self::Below(Arc::from(suffix))),
            None => check(&lower).map(|()| Self::Exact(Arc::from(lower.as_str()))),
        }
    }
}

impl fmt::Display for SniName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

pub(crate) static SNI_NAME: ScalarFormat = ScalarFormat {
    name: "SniName",
    types: &["name"],
    doc: "A DNS name such as `ui.example.test`, or `*.example.test` for all names below one.",
    schema: || schema(r"(\*\.)?"),
};

pub(crate) static PROBED_NAME: ScalarFormat = ScalarFormat {
    name: "ProbedName",
    types: &["name"],
    doc: "A DNS name such as `ui.example.test`.",
    schema: || schema(""),
};

fn schema(prefix: &str) -> Value {
    let inner = LONGEST_LABEL - 2;
    let label = format!("[0-9A-Za-z_]([0-9A-Za-z_-]{{0,{inner}}}[0-9A-Za-z_])?");
    json!({
        "type": "string",
        "maxLength": LONGEST_NAME,
        "pattern": format!(r"^{prefix}{label}(\.{label})*$"),
        "not": {"pattern": format!("^{prefix}{}$", ipv4_pattern())},
    })
}

/// Reads a name, or `*.` and a name. `None` means that a problem was reported.
pub(crate) fn sni(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<SniName> {
    let said = fields::text::text(node, problems)?;
    match SniName::new(said) {
        Ok(name) => Some(name),
        Err(error) => {
            let said = quote(said);
            problems.report(node.at, format!("{said} is not an SNI name, because {error}; expected one such as `ui.example.test` or `*.example.test`"));
            None
        }
    }
}

fn check(name: &str) -> Result<(), SniNameError> {
    if !name.is_empty() && name.ends_with('.') {
        return Err(SniNameError::FinalDot);
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err(SniNameError::Address);
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), SniNameError> {
    let foreign = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match label.chars().find(foreign) {
        Some(character) => Err(SniNameError::Character(character)),
        None if label.is_empty() => Err(SniNameError::EmptyLabel),
        None if label.len() > LONGEST_LABEL => Err(SniNameError::TooLong),
        None if label.starts_with('-') || label.ends_with('-') => Err(SniNameError::OuterHyphen),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_to_lower_case_and_wildcards_keep_their_suffix() {
        assert_eq!(
            SniName::new("Ui.Example.TEST").unwrap().to_string(),
            "ui.example.test"
        );
        assert_eq!(
            SniName::new("*.Example.test").unwrap().to_string(),
            "*.example.test"
        );
        assert_eq!(SniName::new("_x_.a-b").unwrap().to_string(), "_x_.a-b");
    }

    #[test]
    fn what_no_client_can_send_is_refused() {
        let long = "a".repeat(64);
        let longer = ["a".repeat(60).as_str(); 5].join(".");
        for (text, error) in [
            ("", SniNameError::EmptyLabel),
            ("*.", SniNameError::EmptyLabel),
            ("a..b", SniNameError::EmptyLabel),
            ("a.", SniNameError::FinalDot),
            ("*", SniNameError::Character('*')),
            ("a.*.b", SniNameError::Character('*')),
            ("ui servers", SniNameError::Character(' ')),
            ("bücher.test", SniNameError::Character('ü')),
            ("-a.test", SniNameError::OuterHyphen),
            ("10.0.0.1", SniNameError::Address),
            ("::1", SniNameError::Address),
            (long.as_str(), SniNameError::TooLong),
            (longer.as_str(), SniNameError::TooLong),
        ] {
            assert_eq!(SniName::new(text), Err(error), "{text}");
        }
    }
}
