//! Specifications of certificates to be signed.

use std::fmt;

use time::{Duration, OffsetDateTime};

use crate::error::CertgenError;
use crate::host_name::HostName;
use crate::name::LONGEST_NAME;

/// Time before now at which a validity starts, for verifiers whose clock is slow: 5 minutes.
pub(crate) const BACKDATED: Duration = Duration::minutes(5);

/// Default validity of an authority: ten years, including their leap days.
const AUTHORITY_LASTS: Duration = Duration::days(3652);

/// Default validity of a leaf: 90 days.
const LEAF_LASTS: Duration = Duration::days(90);

/// Specification of an authority's own certificate, for
/// [`Authority::new`](crate::Authority::new).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySpec {
    /// The authority's name; without one, it is named after its key.
    pub common_name: Option<String>,
    /// The first second of its validity.
    pub not_before: OffsetDateTime,
    /// The last second of its validity.
    pub not_after: OffsetDateTime,
    /// The number of intermediate authorities allowed below it; with 0 it signs leaves only.
    pub path_len: u8,
}

impl Default for AuthoritySpec {
    /// An authority that is valid for ten years, signs leaves only and is named after its key.
    fn default() -> Self {
        let now = now();
        Self {
            common_name: None,
            not_before: now - BACKDATED,
            not_after: now + AUTHORITY_LASTS,
            path_len: 0,
        }
    }
}

/// Purpose of a leaf (extended key usage): exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafUsage {
    /// Proving a server to its clients (`serverAuth`).
    Server,
    /// Proving a client to a server (`clientAuth`).
    Client,
}

impl fmt::Display for LeafUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        })
    }
}

/// Specification of a leaf, for [`Authority::issue`](crate::Authority::issue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafSpec {
    /// The common name, which is a client's identity.
    pub common_name: String,
    /// The subject alternative names, by which clients verify a server.
    pub sans: Vec<HostName>,
    /// The purpose of the leaf.
    pub usage: LeafUsage,
    /// The first second of its validity.
    pub not_before: OffsetDateTime,
    /// The last second of its validity; an earlier end of the authority takes precedence.
    pub not_after: OffsetDateTime,
}

impl LeafSpec {
    /// Makes the specification of a server of these names, for 90 days from now.
    ///
    /// The first name is also the common name, or `server` if that name is too long for one.
    ///
    /// # Errors
    ///
    /// No name ([`CertgenError::NoNames`]), or one that is neither a DNS name nor an IP address.
    pub fn server(names: &[&str]) -> Result<Self, CertgenError> {
        let mut sans: Vec<HostName> = Vec::with_capacity(names.len());
        for name in names {
            let host = HostName::parse(name)?;
            if !sans.contains(&host) {
                sans.push(host);
            }
        }
        let common_name = match sans.first() {
            None => return Err(CertgenError::NoNames),
            // Verifiers look at the alternative names; the common name is for people.
            Some(HostName::Dns(name)) if name.len() > LONGEST_NAME => "server".to_owned(),
            Some(HostName::Dns(name)) => name.clone(),
            Some(HostName::Ip(address)) => address.to_string(),
        };
        Ok(Self::of(common_name, sans, LeafUsage::Server))
    }

    /// Makes the specification of a client of this name, for 90 days from now.
    pub fn client(common_name: &str) -> Self {
        Self::of(common_name.to_owned(), Vec::new(), LeafUsage::Client)
    }

    /// Returns the same leaf with an end this long after now.
    ///
    /// The end does not change if the new one cannot be represented.
    #[must_use]
    pub fn lasting(self, length: Duration) -> Self {
        Self {
            not_after: now().checked_add(length).unwrap_or(self.not_after),
            ..self
        }
    }

    fn of(common_name: String, sans: Vec<HostName>, usage: LeafUsage) -> Self {
        let now = now();
        Self {
            common_name,
            sans,
            usage,
            not_before: now - BACKDATED,
            not_after: now + LEAF_LASTS,
        }
    }
}

/// The current time in whole seconds, the resolution of certificates.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}
