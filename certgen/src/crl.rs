//! Revocation lists of an authority (RFC 5280, 5): reading, signing and their entries.

use std::ops::Range;
use std::path::Path;

use rustls_pki_types::CertificateRevocationListDer;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::error::CertgenError;
use crate::sections;
use crate::serial::CertificateSerial;
use crate::store;

/// Default validity of a revocation list: 30 days.
const LIST_LASTS: Duration = Duration::days(30);

/// A signed revocation list, as PEM and DER; [`crate::Authority::crl`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    pem: String,
}

impl RevocationList {
    pub(crate) fn new(der: CertificateRevocationListDer<'static>, pem: String) -> Self {
        Self { der, pem }
    }

    /// The list as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The list as DER.
    pub fn der(&self) -> &CertificateRevocationListDer<'static> {
        &self.der
    }
}

/// One revoked certificate and the time of its revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    serial: CertificateSerial,
    at: OffsetDateTime,
}

impl RevokedCertificate {
    /// Makes the entry of a certificate that is revoked at this time.
    pub fn new(serial: CertificateSerial, at: OffsetDateTime) -> Self {
        Self { serial, at }
    }

    /// The certificate's serial.
    pub fn serial(&self) -> &CertificateSerial {
        &self.serial
    }

    /// The time of the revocation.
    pub fn at(&self) -> OffsetDateTime {
        self.at
    }
}

/// Contents of a revocation list: all certificates that the authority has revoked so far, the
/// list's number and its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrlContents {
    entries: Vec<RevokedCertificate>,
    number: u64,
    next_update: Option<OffsetDateTime>,
    lasts: Option<Duration>,
}

impl CrlContents {
    /// Reads a revocation list that this certificate's authority signed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is not a list, holds more than one section
    /// ([`CertgenError::NotAlone`]), or was signed by another authority
    /// ([`CertgenError::Foreign`]).
    pub fn load(path: &Path, authority: &[u8]) -> Result<Self, CertgenError> {
        let unreadable = || sections::unreadable(path, "revocation list");
        let mut sections = sections::read(&store::read_file(path)?, path)?.into_iter();
        let list = sections
            .next()
            .filter(|section| section.label == sections::LIST)
            .ok_or_else(unreadable)?;
        if sections.next().is_some() {
            return Err(CertgenError::NotAlone(path.to_owned()));
        }
        Self::parse(&list.der, authority).map_err(|fault| match fault {
            CrlFault::Unreadable => unreadable(),
            CrlFault::Foreign => CertgenError::Foreign(path.to_owned()),
        })
    }

    /// The revoked certificates, in the order of their revocation.
    pub fn entries(&self) -> &[RevokedCertificate] {
        &self.entries
    }

    /// The number of the list; each later list has a higher one. 0 if the list has no number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The end of the list's validity (`nextUpdate`), if it has one.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        self.next_update
    }

    /// Returns true if the certificate is revoked.
    pub fn contains(&self, serial: &CertificateSerial) -> bool {
        self.entries.iter().any(|entry| entry.serial == *serial)
    }

    /// Returns the validity of the list that follows this one: `wanted`, or that of this one, or
    /// [`LIST_LASTS`].
    pub(crate) fn next_lasts(&self, wanted: Option<Duration>) -> Duration {
        wanted.or(self.lasts).unwrap_or(LIST_LASTS)
    }

    /// The contents of the list that follows this one and is valid for `updates`: these serials are
    /// revoked too, at its start.
    ///
    /// # Errors
    ///
    /// A list that has the highest number ([`CertgenError::CrlNumber`]).
    pub(crate) fn next(
        mut self,
        serials: &[CertificateSerial],
        updates: &Range<OffsetDateTime>,
    ) -> Result<Self, CertgenError> {
        for serial in serials {
            if !self.contains(serial) {
                let entry = RevokedCertificate::new(serial.clone(), updates.start);
                self.entries.push(entry);
            }
        }
        self.number = self.number.checked_add(1).ok_or(CertgenError::CrlNumber)?;
        self.next_update = Some(updates.end);
        self.lasts = Some(updates.end - updates.start);
        Ok(self)
    }

    fn parse(der: &[u8], authority: &[u8]) -> Result<Self, CrlFault> {
        let (_, list) =
            CertificateRevocationList::from_der(der).map_err(|_| CrlFault::Unreadable)?;
        let (_, authority) = X509Certificate::from_der(authority).map_err(|_| CrlFault::Foreign)?;
        if list.issuer().as_raw() != authority.subject().as_raw()
            || list.verify_signature(authority.public_key()).is_err()
        {
            return Err(CrlFault::Foreign);
        }
        let entries = list
            .iter_revoked_certificates()
            .map(|entry| RevokedCertificate {
                serial: CertificateSerial::from_bytes(entry.raw_serial()),
                at: entry.revocation_date.to_datetime(),
            })
            .collect();
        let number = match list.crl_number() {
            Some(number) => u64::try_from(number).map_err(|_| CrlFault::Unreadable)?,
            None => 0,
        };
        let next_update = list.next_update().map(|time| time.to_datetime());
        let lasts = next_update.map(|next| next - list.last_update().to_datetime());
        Ok(Self {
            entries,
            number,
            next_update,
            lasts: lasts.filter(|lasts| lasts.is_positive()),
        })
    }
}

enum CrlFault {
    Unreadable,
    Foreign,
}
