//! Contents of a certificate, shown to people as text and to scripts as JSON.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::prelude::FromDer;

use crate::error::CertgenError;
use crate::sections;
use crate::serial::CertificateSerial;
use crate::spec::now;
use crate::store;

/// Fields of one certificate, parsed but not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    subject: String,
    common_names: Vec<String>,
    sans: Vec<String>,
    usages: Vec<String>,
    authority: bool,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: CertificateSerial,
    fingerprint: String,
    issuer: String,
}

impl CertificateFacts {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or does not hold a certificate.
    pub fn load(path: &Path) -> Result<Self, CertgenError> {
        Self::parse(&load(path)?).ok_or_else(|| unreadable(path))
    }

    /// Parses a certificate; `None` if it is malformed.
    pub fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let sans = certificate.subject_alternative_name().ok().flatten();
        let usages = certificate.extended_key_usage().ok().flatten();
        let common_names = certificate.subject().iter_common_name();
        Some(Self {
            subject: certificate.subject().to_string(),
            common_names: common_names
                .filter_map(|name| name.as_str().ok().map(str::to_owned))
                .collect(),
            sans: sans
                .map(|sans| sans.value.general_names.iter().map(general_name).collect())
                .unwrap_or_default(),
            usages: usages
                .map(|usages| usage_names(usages.value))
                .unwrap_or_default(),
            authority: certificate.is_ca(),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            serial: CertificateSerial::from_bytes(certificate.raw_serial()),
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            issuer: certificate.issuer().to_string(),
        })
    }

    /// The serial number.
    pub fn serial(&self) -> &CertificateSerial {
        &self.serial
    }

    /// The SHA-256 of the DER, in lower-case hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The common name, if the subject has exactly one.
    pub fn common_name(&self) -> Option<&str> {
        match self.common_names.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// The extended key usages: the names of RFC 5280, 4.2.1.12, or else object identifiers.
    pub fn usages(&self) -> &[String] {
        &self.usages
    }

    /// Returns true if the certificate is an authority's.
    pub fn is_authority(&self) -> bool {
        self.authority
    }

    /// The first second of the validity.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second of the validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Returns true if the validity ends within this time from now, or has ended already.
    pub fn ends_within(&self, span: Duration) -> bool {
        self.not_after - now() <= span
    }

    /// The fields as a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "subject": self.subject,
            "common_name": self.common_name(),
            "sans": self.sans,
            "extended_key_usage": self.usages,
            "authority": self.authority,
            "not_before": date(self.not_before),
            "not_after": date(self.not_after),
            "serial": self.serial.to_string(),
            "sha256": self.fingerprint,
            "issuer": self.issuer,
        })
    }
}

impl fmt::Display for CertificateFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| match items {
            [] => "none".to_owned(),
            items => items.join(", "),
        };
        let rows = [
            ("subject", self.subject.clone()),
            ("common name", list(&self.common_names)),
            ("names", list(&self.sans)),
            ("usage", list(&self.usages)),
            (
                "authority",
                if self.authority { "yes" } else { "no" }.to_owned(),
            ),
            ("not before", date(self.not_before)),
            ("not after", date(self.not_after)),
            ("serial", self.serial.to_string()),
            ("sha256", self.fingerprint.clone()),
            ("issuer", self.issuer.clone()),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<12} {}", printable(&value))?;
        }
        Ok(())
    }
}

/// Reads the first certificate of a PEM file.
pub(crate) fn load(path: &Path) -> Result<CertificateDer<'static>, CertgenError> {
    Ok(load_all(path)?.swap_remove(0))
}

/// Reads all certificates of a PEM file; fails if there are none.
pub(crate) fn load_all(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertgenError> {
    sections::certificates(&store::read(path)?, path)
}

/// Makes the error for a file without a certificate.
pub(crate) fn unreadable(path: &Path) -> CertgenError {
    sections::unreadable(path, "certificate")
}

/// Formats a time as RFC 3339.
pub(crate) fn date(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Formats octets as lower-case hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 15])
        .map(digit)
        .collect()
}

fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).expect("a nibble is one hexadecimal digit")
}

/// Escapes all characters of a text that could control a terminal or are invisible.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if crate::name::is_invisible(character) {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

fn general_name(name: &GeneralName<'_>) -> String {
    if let GeneralName::DNSName(name) = name {
        return (*name).to_owned();
    }
    if let GeneralName::IPAddress(octets) = name
        && let Some(address) = ip_address(octets)
    {
        return address.to_string();
    }
    name.to_string()
}

/// Makes an IP address of 4 or 16 octets; `None` for other lengths.
pub(crate) fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(Into::into)
}

fn usage_names(usages: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usages.any, "anyExtendedKeyUsage"),
        (usages.server_auth, "serverAuth"),
        (usages.client_auth, "clientAuth"),
        (usages.code_signing, "codeSigning"),
        (usages.email_protection, "emailProtection"),
        (usages.time_stamping, "timeStamping"),
        (usages.ocsp_signing, "OCSPSigning"),
    ];
    known
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| (*name).to_owned())
        .chain(usages.other.iter().map(ToString::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, AuthoritySpec};

    #[test]
    fn the_facts_are_what_was_asked_for() {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        let issued = authority
            .server(&["a.test", "*.a.test", "10.0.0.1", "::1"])
            .unwrap();
        let facts = CertificateFacts::parse(&issued.certificate_der()).unwrap();

        assert_eq!(facts.common_name(), Some("a.test"));
        assert_eq!(facts.sans, ["a.test", "*.a.test", "10.0.0.1", "::1"]);
        assert_eq!(facts.usages(), ["serverAuth"]);
        assert_eq!(facts.serial(), issued.serial());
        assert!(facts.issuer.starts_with("CN=Portcullis Authority "));
        assert_eq!(facts.fingerprint().len(), 64);
        assert!(!facts.is_authority());
        assert!(facts.ends_within(Duration::days(90)));
        assert!(!facts.ends_within(Duration::days(89)));
    }

    #[test]
    fn what_a_certificate_says_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
    }
}
