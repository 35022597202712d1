//! Search for the certificates to revoke: by file, serial or name.

use std::path::Path;

use crate::authority::Authority;
use crate::directory::AuthorityDirectory;
use crate::error::CertgenError;
use crate::index::CertificateIndex;
use crate::serial::CertificateSerial;

/// One certificate to revoke; [`AuthorityDirectory::targets`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationTarget {
    serial: CertificateSerial,
    name: String,
}

impl RevocationTarget {
    /// The certificate with this serial, even if it is not in the index.
    pub fn of_serial(serial: CertificateSerial) -> Self {
        let name = "a certificate".to_owned();
        Self { serial, name }
    }

    /// The certificate's serial.
    pub fn serial(&self) -> &CertificateSerial {
        &self.serial
    }

    /// A description for messages: the file or name by which it was found, or a general one.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Number of certificates that a name may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchCount {
    /// One; a name with more in force is refused ([`CertgenError::Ambiguous`]).
    One,
    /// All that are in force.
    All,
}

impl AuthorityDirectory {
    /// Finds the certificates that texts identify: by file, serial or name.
    ///
    /// A certificate that is found by file or serial is followed by those that it replaced and that
    /// are still in force.
    ///
    /// # Errors
    ///
    /// A file that is not a leaf of the authority, or a text that matches none or too many.
    pub fn targets(
        &self,
        authority: &Authority,
        texts: &[String],
        reach: MatchCount,
    ) -> Result<Vec<RevocationTarget>, CertgenError> {
        let index = self.index(authority.certificate_der())?;
        let mut targets = Vec::new();
        for text in texts {
            targets.extend(find(authority, &index, text, reach)?);
        }
        Ok(targets)
    }
}

/// Digits that a serial needs if it is not in the index: a shorter one could be a name.
const SURE_DIGITS: usize = 16;

fn long_enough(text: &str) -> bool {
    text.contains(':') || text.len() >= SURE_DIGITS
}

fn find(
    authority: &Authority,
    index: &CertificateIndex,
    text: &str,
    reach: MatchCount,
) -> Result<Vec<RevocationTarget>, CertgenError> {
    let path = Path::new(text);
    if path.is_file() {
        let serial = authority.serial_in(path)?;
        return Ok(with_replaced(index, serial, text));
    }
    let serial = CertificateSerial::parse(text);
    let known = serial.as_ref().and_then(|serial| index.get(serial));
    match (serial, known) {
        (Some(serial), Some(entry)) => Ok(with_replaced(index, serial, &entry.name)),
        (_, None) if index.knows(text) => named(index, text, reach),
        (Some(serial), None) if long_enough(text) => Ok(vec![RevocationTarget::of_serial(serial)]),
        _ => Err(CertgenError::UnknownTarget(text.to_owned())),
    }
}

fn named(
    index: &CertificateIndex,
    name: &str,
    reach: MatchCount,
) -> Result<Vec<RevocationTarget>, CertgenError> {
    let found = index.named(name);
    match (found.as_slice(), reach) {
        ([], _) => Err(CertgenError::Ended(name.to_owned())),
        ([_, _, ..], MatchCount::One) if !found.iter().all(|entry| index.is_revoked(entry)) => {
            Err(CertgenError::Ambiguous {
                name: name.to_owned(),
                candidates: found.iter().map(|entry| index.describe(entry)).collect(),
            })
        }
        _ => Ok(found
            .iter()
            .map(|entry| RevocationTarget {
                serial: entry.serial.clone(),
                name: name.to_owned(),
            })
            .collect()),
    }
}

/// A certificate and those that it replaced: the holder of any of their keys is the same client.
fn with_replaced(
    index: &CertificateIndex,
    serial: CertificateSerial,
    name: &str,
) -> Vec<RevocationTarget> {
    let older = index.replaced(&serial);
    let older: Vec<RevocationTarget> = older
        .iter()
        .map(|entry| RevocationTarget {
            serial: entry.serial.clone(),
            name: format!("an older certificate of {}", entry.name),
        })
        .collect();
    let mut targets = vec![RevocationTarget {
        serial,
        name: name.to_owned(),
    }];
    targets.extend(older);
    targets
}
