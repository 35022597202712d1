//! What a certificate should say, before anybody signed it.

use std::fmt;

use time::{Duration, OffsetDateTime};

use crate::error::CertgenError;
use crate::name::HostName;

/// How far back a validity starts, for verifiers whose clock is behind ours.
pub(crate) const BACKDATED: Duration = Duration::minutes(5);

/// How long an authority lasts unless told otherwise: ten years, with their leap days.
const AUTHORITY_LASTS: Duration = Duration::days(3652);

/// How long a leaf lasts unless told otherwise.
const LEAF_LASTS: Duration = Duration::days(90);

/// What an authority's own certificate should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySpec {
    /// The authority's name; without one, it is named after its key.
    pub common_name: Option<String>,
    /// The first second of its validity.
    pub not_before: OffsetDateTime,
    /// The last second of its validity.
    pub not_after: OffsetDateTime,
    /// How many authorities may follow below it; 0 signs leaves only.
    pub path_len: u8,
}

impl Default for AuthoritySpec {
    /// Ten years from now, for leaves only, named after its key.
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

/// What a leaf may be used for: one thing, never both.
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

/// What a leaf should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafSpec {
    /// The common name, which is a client's identity.
    pub common_name: String,
    /// The names that a server is verified by.
    pub sans: Vec<HostName>,
    /// What it may be used for.
    pub usage: LeafUsage,
    /// The first second of its validity.
    pub not_before: OffsetDateTime,
    /// The last second of its validity; the authority's own end comes first if it is earlier.
    pub not_after: OffsetDateTime,
}

impl LeafSpec {
    /// A server of these names, for 90 days from now; the first is also its common name.
    ///
    /// # Errors
    ///
    /// No name at all, or one that is neither a DNS name nor an IP address.
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
            // Verifiers look at the names below; this one is for people.
            Some(HostName::Dns(name)) if name.len() > crate::LONGEST_NAME => "server".to_owned(),
            Some(HostName::Dns(name)) => name.clone(),
            Some(HostName::Ip(address)) => address.to_string(),
        };
        Ok(Self::of(common_name, sans, LeafUsage::Server))
    }

    /// A client of this name, for 90 days from now.
    pub fn client(common_name: &str) -> Self {
        Self::of(common_name.to_owned(), Vec::new(), LeafUsage::Client)
    }

    /// The same leaf, ending this long after now.
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

/// The present, in the whole seconds that certificates know.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}
