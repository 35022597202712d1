//! The number an authority knows a certificate by.

use std::fmt;

use crate::error::CertgenError;

/// Octets of a fresh serial: 128 bits, well within the 20 octets of RFC 5280.
const FRESH_OCTETS: usize = 16;

/// A certificate's serial: a positive number, without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// Takes big-endian octets for a serial; leading zeros do not count.
    pub fn from_bytes(octets: &[u8]) -> Self {
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        Self(octets[zeros..].to_vec())
    }

    /// A serial that nobody can guess and that will not come twice.
    pub(crate) fn random() -> Result<Self, CertgenError> {
        let mut octets = [0; FRESH_OCTETS];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| CertgenError::Random)?;
        // Zero is no serial, and a first octet of zero would be a shorter one.
        octets[0] |= 1;
        Ok(Self::from_bytes(&octets))
    }

    /// The big-endian octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_compares_by_its_value() {
        assert_eq!(Serial::from_bytes(&[0, 0, 7]), Serial::from_bytes(&[7]));
        assert_eq!(Serial::from_bytes(&[0, 0xab, 0]).to_string(), "ab00");
    }

    #[test]
    fn two_fresh_serials_differ_and_use_all_their_octets() {
        let (one, other) = (Serial::random().unwrap(), Serial::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_bytes().len(), FRESH_OCTETS);
    }
}
