//! Contents of a revocation list, shown to people as text and to scripts as JSON.

use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate_facts::{CertificateFacts, date, printable};
use crate::crl::RevokedCertificate;
use crate::error::CertgenError;
use crate::sections;
use crate::serial::CertificateSerial;
use crate::spec::now;
use crate::store;

/// A list ends soon when at most one part in this many of its validity is left.
const SOON: i32 = 3;

/// Fields of one revocation list, parsed but not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlFacts {
    issuer: String,
    number: Option<String>,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    revoked: Vec<RevokedCertificate>,
}

impl CrlFacts {
    /// Parses a list; `None` if it is malformed.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        let revoked = list.iter_revoked_certificates().map(|entry| {
            let serial = CertificateSerial::from_bytes(entry.raw_serial());
            RevokedCertificate::new(serial, entry.revocation_date.to_datetime())
        });
        Some(Self {
            issuer: list.issuer().to_string(),
            number: list.crl_number().map(ToString::to_string),
            this_update: list.last_update().to_datetime(),
            next_update: list.next_update().map(|time| time.to_datetime()),
            revoked: revoked.collect(),
        })
    }

    /// The revoked certificates, in the order of the list.
    pub fn revoked(&self) -> &[RevokedCertificate] {
        &self.revoked
    }

    /// Returns true if at most a third of the list's validity is left, or it has ended.
    pub fn ends_soon(&self) -> bool {
        let third = self
            .next_update
            .map(|next| (next - self.this_update) / SOON);
        third.is_some_and(|third| self.ends_within(third))
    }

    /// Returns true if the list ends within this time from now, or has ended already; false if it
    /// has no end.
    pub fn ends_within(&self, span: Duration) -> bool {
        self.next_update.is_some_and(|next| next - now() <= span)
    }

    /// The fields as a JSON object.
    pub fn json(&self) -> Value {
        let revoked = self.revoked.iter().map(
            |entry| json!({"serial": entry.serial().to_string(), "revoked": date(entry.at())}),
        );
        json!({
            "issuer": self.issuer,
            "number": self.number,
            "this_update": date(self.this_update),
            "next_update": self.next_update.map(date),
            "ends_soon": self.ends_soon(),
            "revoked": revoked.collect::<Value>(),
        })
    }

    /// A warning if the end of the list is near or past.
    fn warning(&self) -> Option<&'static str> {
        if self.ends_within(Duration::ZERO) {
            Some("expired: gateways refuse every client; run `certgen crl`")
        } else if self.ends_soon() {
            Some("expires soon: gateways will then refuse every client; run `certgen crl`")
        } else {
            None
        }
    }
}

impl fmt::Display for CrlFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "none".to_owned();
        let rows = [
            ("list of", printable(&self.issuer)),
            ("number", self.number.clone().unwrap_or_else(none)),
            ("this update", date(self.this_update)),
            ("next update", self.next_update.map_or_else(none, date)),
            ("revoked", self.revoked.len().to_string()),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<12} {value}")?;
        }
        if let Some(warning) = self.warning() {
            writeln!(f, "{:<12} {warning}", "warning")?;
        }
        if !self.revoked.is_empty() {
            writeln!(f, "\n{:<20}  SERIAL", "REVOKED")?;
        }
        for entry in &self.revoked {
            writeln!(f, "{:<20}  {}", date(entry.at()), entry.serial())?;
        }
        Ok(())
    }
}

/// Facts of the first certificate or revocation list in a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemFacts {
    /// A certificate.
    Certificate(CertificateFacts),
    /// A revocation list.
    List(CrlFacts),
}

impl PemFacts {
    /// Reads the first certificate or list of a PEM file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or does not hold either.
    pub fn load(path: &Path) -> Result<Self, CertgenError> {
        sections::read(&store::read(path)?, path)?
            .into_iter()
            .find_map(|section| match section.label.as_str() {
                sections::CERTIFICATE => {
                    Some(CertificateFacts::parse(&section.der.into()).map(Self::Certificate))
                }
                sections::LIST => Some(CrlFacts::parse(&section.der).map(Self::List)),
                _ => None,
            })
            .flatten()
            .ok_or_else(|| sections::unreadable(path, "certificate or revocation list"))
    }

    /// Returns true if the validity ends within this time from now, or has ended already.
    ///
    /// The default is 30 days for a certificate, and a third of its validity for a list.
    pub fn ends_within(&self, span: Option<Duration>) -> bool {
        match (self, span) {
            (Self::Certificate(facts), span) => facts.ends_within(span.unwrap_or(CERTIFICATE_ENDS)),
            (Self::List(list), Some(span)) => list.ends_within(span),
            (Self::List(list), None) => list.ends_soon(),
        }
    }

    /// The fields as a JSON object.
    pub fn json(&self) -> Value {
        match self {
            Self::Certificate(facts) => facts.json(),
            Self::List(list) => list.json(),
        }
    }
}

impl fmt::Display for PemFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(facts) => facts.fmt(f),
            Self::List(list) => list.fmt(f),
        }
    }
}

/// Time before its end at which a certificate should be renewed: 30 days.
const CERTIFICATE_ENDS: Duration = Duration::days(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, AuthoritySpec};

    /// A list that was signed this long ago and lasts 30 days.
    fn signed(ago: Duration) -> CrlFacts {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        let (start, serial) = (now() - ago, CertificateSerial::parse("0abc").unwrap());
        let list = authority.crl(&[serial], start, start + Duration::days(30), 7);
        CrlFacts::parse(list.unwrap().der()).unwrap()
    }

    #[test]
    fn a_list_says_when_its_end_is_near() {
        let day = Duration::days(1);
        for (ago, soon) in [
            (day, false),
            (19 * day, false),
            (21 * day, true),
            (31 * day, true),
        ] {
            let list = signed(ago);
            assert_eq!(list.ends_soon(), soon, "{ago}");
            assert_eq!(list.to_string().contains("warning"), soon, "{ago}");
        }
        assert!(signed(31 * day).to_string().contains("expired: gateways"));
        assert!(!signed(29 * day).to_string().contains("expired: gateways"));
    }

    #[test]
    fn a_list_says_its_number_and_its_serials() {
        let list = signed(Duration::ZERO);
        assert_eq!(list.json()["number"], "7");
        assert_eq!(list.json()["revoked"][0]["serial"], "0abc");
        let said = list.to_string();
        assert!(
            said.contains("list of      CN=Portcullis Authority "),
            "{said}"
        );
        assert!(said.contains("number       7\n"), "{said}");
        assert!(said.ends_with("Z  0abc\n"), "{said}");
    }
}
