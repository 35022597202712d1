//! The certificate of a client that is refused, as its own fields say: nothing of it is proven.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Fingerprint;

/// Maximum length in characters of a text that a certificate claims; a longer one is cut.
pub const LONGEST_CLAIM: usize = 200;
/// Maximum length in bytes of a serial number that is shown whole; RFC 5280 allows 20.
const LONGEST_SERIAL: usize = 32;
/// Ends a text that was cut.
const CUT: char = '…';

/// Statements of a certificate about itself. They are not verified: anybody can make the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedCertificate {
    subject: Box<str>,
    issuer: Box<str>,
    serial: Box<str>,
    fingerprint: Fingerprint,
}

impl ClaimedCertificate {
    /// Reads what a certificate claims; `None` if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        Some(Self {
            subject: clean(&parsed.subject().to_string()),
            issuer: clean(&parsed.issuer().to_string()),
            serial: serial(parsed.raw_serial()),
            fingerprint: Fingerprint::of(certificate),
        })
    }

    /// Returns the subject's name, cleaned and at most [`LONGEST_CLAIM`] long.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the issuer's name, cleaned and at most [`LONGEST_CLAIM`] long.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the serial number in hexadecimal digits.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Returns the certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// Returns a text with everything escaped that is neither a letter or digit nor visible ASCII, so
/// that it cannot alter how a terminal shows it.
fn clean(text: &str) -> Box<str> {
    let is_shown = |c: char| c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric();
    let mut clean = String::new();
    for (length, c) in text.chars().enumerate() {
        if length == LONGEST_CLAIM {
            clean.push(CUT);
            break;
        }
        if is_shown(c) {
            clean.push(c);
        } else {
            clean.extend(c.escape_unicode());
        }
    }
    clean.into()
}

fn serial(bytes: &[u8]) -> Box<str> {
    let shown = &bytes[..bytes.len().min(LONGEST_SERIAL)];
    let halves = shown.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let digits = halves.filter_map(|half| char::from_digit(half.into(), 16));
    let mut digits: String = digits.collect();
    if shown.len() < bytes.len() {
        digits.push(CUT);
    }
    digits.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_who_it_is_and_who_issued_it() {
        let authority = certgen::Authority::new(&certgen::AuthoritySpec::default()).unwrap();
        let certificate = authority.client("billing").unwrap().certificate_der();
        let claimed = ClaimedCertificate::of(&certificate).unwrap();
        assert!(claimed.subject().contains("CN=billing"), "{claimed:?}");
        let own = ClaimedCertificate::of(authority.certificate_der()).unwrap();
        assert_eq!(claimed.issuer(), own.subject());
        assert!(!claimed.serial().is_empty());
        assert_eq!(claimed.fingerprint(), Fingerprint::of(&certificate));
        assert_eq!(
            ClaimedCertificate::of(&CertificateDer::from_slice(b"no")),
            None
        );
    }

    #[test]
    fn what_a_peer_wrote_is_bounded_and_cannot_alter_a_terminal() {
        for (text, cleaned) in [
            ("CN=Jürgen, O=a b", "CN=Jürgen, O=a b"),
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
            ("a\nb", "a\\u{a}b"),
        ] {
            assert_eq!(&*clean(text), cleaned);
        }
        assert_eq!(
            clean(&"x".repeat(LONGEST_CLAIM)).chars().count(),
            LONGEST_CLAIM
        );
        let long = clean(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), LONGEST_CLAIM + 1);
        assert!(long.ends_with(CUT));
        assert_eq!(&*serial(&[1, 0xab]), "01ab");
        assert_eq!(serial(&[7; 10_000]).chars().count(), 2 * LONGEST_SERIAL + 1);
    }
}
