//! What is to be revoked, by the words that it is asked for with.

use std::path::Path;

use crate::authority::Authority;
use crate::directory::Directory;
use crate::error::CertgenError;
use crate::index::Index;
use crate::serial::Serial;

/// What is to be revoked: one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    serial: Serial,
    name: String,
}

impl Target {
    /// The certificate with this serial, whether the index knows it or not.
    pub fn of_serial(serial: Serial) -> Self {
        let name = "a certificate".to_owned();
        Self { serial, name }
    }

    /// The certificate's serial.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The file or the name that it was found by.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How many certificates a name may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One; a name with more in force is refused.
    One,
    /// All that are in force.
    All,
}

impl Directory {
    /// Finds what texts stand for: certificates' files, their serials, or their names.
    ///
    /// With a certificate come those that it replaced and that are still in force.
    ///
    /// # Errors
    ///
    /// A file that is no leaf of the authority's, or a text that stands for nothing, or too much.
    pub fn targets(
        &self,
        authority: &Authority,
        texts: &[String],
        reach: Reach,
    ) -> Result<Vec<Target>, CertgenError> {
        let index = self.index(authority.certificate_der())?;
        let mut targets = Vec::new();
        for text in texts {
            targets.extend(find(authority, &index, text, reach)?);
        }
        Ok(targets)
    }
}

/// Digits that a serial needs which the index does not know: a name could look like a shorter one.
const SURE_DIGITS: usize = 16;

fn long_enough(text: &str) -> bool {
    text.contains(':') || text.len() >= SURE_DIGITS
}

fn find(
    authority: &Authority,
    index: &Index,
    text: &str,
    reach: Reach,
) -> Result<Vec<Target>, CertgenError> {
    let path = Path::new(text);
    if path.is_file() {
        let serial = authority.serial_in(path)?;
        return Ok(with_replaced(index, serial, text));
    }
    let serial = Serial::parse(text);
    let known = serial.as_ref().and_then(|serial| index.get(serial));
    match (serial, known) {
        (Some(serial), Some(entry)) => Ok(with_replaced(index, serial, &entry.name)),
        (_, None) if index.knows(text) => named(index, text, reach),
        (Some(serial), None) if long_enough(text) => Ok(vec![Target::of_serial(serial)]),
        _ => Err(CertgenError::UnknownTarget(text.to_owned())),
    }
}

fn named(index: &Index, name: &str, reach: Reach) -> Result<Vec<Target>, CertgenError> {
    let found = index.named(name);
    match (found.as_slice(), reach) {
        ([], _) => Err(CertgenError::Ended(name.to_owned())),
        ([_, _, ..], Reach::One) if !found.iter().all(|entry| index.is_revoked(entry)) => {
            Err(CertgenError::Ambiguous {
                name: name.to_owned(),
                candidates: found.iter().map(|entry| index.describe(entry)).collect(),
            })
        }
        _ => Ok(found
            .iter()
            .map(|entry| Target {
                serial: entry.serial.clone(),
                name: name.to_owned(),
            })
            .collect()),
    }
}

/// A certificate, and those of its kind that it replaced: whoever has one of their keys is the
/// same client.
fn with_replaced(index: &Index, serial: Serial, name: &str) -> Vec<Target> {
    let older = index.replaced(&serial);
    let older: Vec<Target> = older
        .iter()
        .map(|entry| Target {
            serial: entry.serial.clone(),
            name: format!("an older certificate of {}", entry.name),
        })
        .collect();
    let mut targets = vec![Target {
        serial,
        name: name.to_owned(),
    }];
    targets.extend(older);
    targets
}
