//! Serial numbers of certificates (RFC 5280, 4.1.2.2).

use std::fmt;

use thiserror::Error;

/// Octets of a fresh serial: 128 bits, well within the 20 octets of RFC 5280.
const FRESH_OCTETS: usize = 16;

/// Octets of the longest serial that RFC 5280 allows.
const LONGEST_OCTETS: usize = 20;

/// The random number generator failed, so that no serial can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("cannot get random bytes from the system")]
pub struct RandomError;

/// Serial number of a certificate: an unsigned number without leading zeros.
///
/// [`Display`](fmt::Display) writes it as lower-case hexadecimal, two digits for each octet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateSerial(Vec<u8>);

impl CertificateSerial {
    /// Makes a serial from big-endian octets; leading zeros are dropped.
    pub fn from_bytes(octets: &[u8]) -> Self {
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        Self(octets[zeros..].to_vec())
    }

    /// Makes an unpredictable serial of 128 bits, long enough to be unique.
    pub(crate) fn random() -> Result<Self, RandomError> {
        let mut octets = [0; FRESH_OCTETS];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| RandomError)?;
        // Zero is not a serial, and a first octet of zero would make it shorter.
        octets[0] |= 1;
        Ok(Self::from_bytes(&octets))
    }

    /// Parses hexadecimal digits, with or without colons between octets.
    ///
    /// Returns `None` for other text, for zero and for more than 20 octets (RFC 5280, 4.1.2.2).
    pub fn parse(text: &str) -> Option<Self> {
        // Between colons there is one octet; without colons, every two digits are one.
        let groups: Vec<&[u8]> = if text.contains(':') {
            text.split(':').map(str::as_bytes).collect()
        } else {
            text.as_bytes().rchunks(2).rev().collect()
        };
        let octets: Vec<u8> = groups.into_iter().map(octet).collect::<Option<_>>()?;
        let serial = Self::from_bytes(&octets);
        (1..=LONGEST_OCTETS)
            .contains(&serial.0.len())
            .then_some(serial)
    }

    /// The big-endian octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Parses an octet of one or two hexadecimal digits.
fn octet(digits: &[u8]) -> Option<u8> {
    if !matches!(digits.len(), 1 | 2) {
        return None;
    }
    digits.iter().try_fold(0, |octet, digit| {
        let nibble = char::from(*digit).to_digit(16)?;
        u8::try_from(nibble).ok().map(|nibble| octet << 4 | nibble)
    })
}

impl fmt::Display for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_compares_by_its_value() {
        assert_eq!(
            CertificateSerial::from_bytes(&[0, 0, 7]),
            CertificateSerial::from_bytes(&[7])
        );
        assert_eq!(
            CertificateSerial::from_bytes(&[0, 0xab, 0]).to_string(),
            "ab00"
        );
    }

    #[test]
    fn a_serial_is_read_with_and_without_colons() {
        let serial = CertificateSerial::from_bytes(&[0x0a, 0xbc, 0xde]);
        for text in [
            "0abcde",
            "abcde",
            "0A:BC:DE",
            "a:bc:de",
            "00:0a:bc:de",
            "000abcde",
        ] {
            assert_eq!(
                CertificateSerial::parse(text).as_ref(),
                Some(&serial),
                "{text}"
            );
        }
        assert_eq!(CertificateSerial::parse(&serial.to_string()), Some(serial));
        assert!(CertificateSerial::parse(&"ff".repeat(20)).is_some());
        let long = "ff".repeat(21);
        for bad in [
            "", ":", "0", "00:00", "abc:de", "a:", ":a", "0x0a", "+1", "g1", "ü", &long,
        ] {
            assert_eq!(CertificateSerial::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn two_fresh_serials_differ_and_use_all_their_octets() {
        let (one, other) = (
            CertificateSerial::random().unwrap(),
            CertificateSerial::random().unwrap(),
        );
        assert_ne!(one, other);
        assert_eq!(one.as_bytes().len(), FRESH_OCTETS);
    }
}
