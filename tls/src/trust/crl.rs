//! One revocation list: its signer, its scope, and the certificates that it revokes.

use std::collections::HashSet;
use std::fmt;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{BorrowedCertRevocationList, Cert, EndEntityCert, anchor_from_trusted_cert};
use x509_parser::extensions::{
    CRLDistributionPoints, DistributionPointName, GeneralName, ParsedExtension, X509Extension,
};
use x509_parser::num_bigint::BigUint;
use x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::profile;
use super::validity::{ValidityPeriod, seconds, unix};
use crate::dated_item::{DatedItem, DatedKind};
use crate::expiry::Lifetime;
use crate::files::{ExpiredLists, SettingsFile};
use crate::identity::Fingerprint;

/// An authority as the issuer of lists ([`VerifiedCrl`]): a name and a public key.
///
/// Two authorities may have the same name, mostly after a change of the key. The issuer of a
/// certificate or a list is identified by the key that verifies its signature, never by the name
/// alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CrlIssuer {
    name: Vec<u8>,
    key: Vec<u8>,
}

impl CrlIssuer {
    /// Creates an issuer. Both arguments are the contents of a DER sequence, as webpki has them.
    pub(super) fn new(name: &[u8], key: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            key: key.to_vec(),
        }
    }

    /// Returns true if the authority has this name.
    pub(super) fn has_name(&self, name: &[u8]) -> bool {
        self.name == name
    }

    /// Returns the issuer that an authority's certificate describes.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, webpki::Error> {
        let anchor = anchor_from_trusted_cert(certificate)?;
        Ok(Self::new(&anchor.subject, &anchor.subject_public_key_info))
    }
}

/// A revocation list whose signature was verified.
#[derive(Debug)]
pub(super) struct VerifiedCrl {
    mark: CrlIdentity,
    validity: ValidityPeriod,
    /// Revoked serial numbers, as the contents of their DER.
    serials: HashSet<Box<[u8]>>,
    content: Fingerprint,
    file: SettingsFile,
}

/// Identity of a list among those of its issuer: its scope and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CrlIdentity {
    /// The list's issuing distribution point (RFC 5280, 5.2.5). A list without it covers every
    /// certificate of its issuer.
    scope: Option<CrlScope>,
    version: CrlVersion,
    signer: String,
}

/// Version of a list: its number, and among lists with the same number the time of its issue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CrlVersion {
    number: BigUint,
    this_update: i64,
}

impl fmt::Display for CrlVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}", self.number)
    }
}

impl fmt::Display for VerifiedCrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.mark.signer, self.mark.version)
    }
}

/// Scope of a list: the certificates of its issuer that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CrlScope {
    der: Vec<u8>,
    only_clients: bool,
    only_authorities: bool,
    uris: Vec<String>,
}

impl VerifiedCrl {
    /// Reads a list of this file that one of these authorities signed, and returns it with its
    /// issuer.
    ///
    /// # Errors
    ///
    /// The list is malformed, is of a kind that is not supported, or was not signed by one of them.
    pub(super) fn read(
        der: &[u8],
        file: SettingsFile,
        authorities: &[CertificateDer<'_>],
    ) -> Result<(CrlIssuer, Self), &'static str> {
        // webpki refuses everything that neither it nor this module can evaluate: critical
        // extensions, delta lists, lists for several issuers or for some reasons only.
        let checked = BorrowedCertRevocationList::from_der(der).map_err(|_| "is malformed")?;
        let serials = checked
            .into_iter()
            .map(|revoked| revoked.map(|revoked| revoked.serial_number.into()))
            .collect::<Result<_, _>>()
            .map_err(|_| "has a malformed entry")?;
        let (rest, parsed) =
            CertificateRevocationList::from_der(der).map_err(|_| "is malformed")?;
        if !rest.is_empty() {
            return Err("has bytes after its end");
        }
        let next_update = parsed.next_update().ok_or("has no nextUpdate")?;
        let number = parsed.crl_number().ok_or("has no number (cRLNumber)")?;
        let version = CrlVersion {
            number: number.clone(),
            this_update: parsed.last_update().timestamp(),
        };
        let issuer = issuer(&parsed, authorities)?;
        let list = Self {
            mark: CrlIdentity {
                scope: scope(&parsed)?,
                version,
                signer: parsed.issuer().to_string(),
            },
            validity: ValidityPeriod {
                not_before: seconds(parsed.last_update().timestamp()),
                not_after: seconds(next_update.timestamp()),
            },
            serials,
            content: Fingerprint::of(der),
            file,
        };
        Ok((issuer, list))
    }

    /// Returns the list's identity among those of its issuer.
    pub(super) fn mark(&self) -> &CrlIdentity {
        &self.mark
    }

    /// Returns the list's version.
    pub(super) fn version(&self) -> &CrlVersion {
        &self.mark.version
    }

    /// Returns the time at which the list must have a successor.
    pub(super) fn next_update(&self) -> UnixTime {
        unix(self.validity.not_after)
    }

    /// Returns the list with its dates.
    pub(super) fn dated(&self, expired: ExpiredLists) -> DatedItem {
        DatedItem {
            kind: DatedKind::RevocationList,
            file: self.file,
            subject: self.to_string(),
            lifetime: Lifetime::of_list(self.validity),
            fingerprint: self.content,
            advice: match expired {
                ExpiredLists::Refuse => {
                    "without a newer list all clients of this authority are refused after that"
                }
                ExpiredLists::Accept => "install a newer list",
            },
        }
    }

    /// Returns true if both lists are the same, byte for byte.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.content == other.content
    }

    /// Returns true if both lists cover the same certificates of their issuer.
    pub(super) fn has_scope_of(&self, other: &Self) -> bool {
        self.mark.has_scope_of(&other.mark)
    }

    /// Returns true if the list revokes this certificate, whose issuer must be the list's.
    pub(super) fn revokes(&self, certificate: &Cert<'_>) -> bool {
        self.serials.contains(certificate.serial())
    }

    /// Returns true if the list covers this certificate of its issuer, so that it would name it if
    /// it were revoked.
    pub(super) fn covers(&self, certificate: &Cert<'_>, is_authority: bool) -> bool {
        self.mark
            .scope
            .as_ref()
            .is_none_or(|scope| scope.covers(certificate, is_authority))
    }
}

impl CrlIdentity {
    /// Returns the list's version.
    pub(super) fn version(&self) -> &CrlVersion {
        &self.version
    }

    /// Returns the name of the authority that signed the list.
    pub(super) fn signer(&self) -> &str {
        &self.signer
    }

    /// Returns true if both lists cover the same certificates of their issuer.
    pub(super) fn has_scope_of(&self, other: &Self) -> bool {
        self.scope == other.scope
    }
}

impl CrlScope {
    fn covers(&self, certificate: &Cert<'_>, is_authority: bool) -> bool {
        if self.only_clients && is_authority || self.only_authorities && !is_authority {
            return false;
        }
        let der = certificate.der();
        let Ok((_, parsed)) = X509Certificate::from_der(&der) else {
            return false;
        };
        let mut points = parsed
            .iter_extensions()
            .filter(|one| one.oid == OID_X509_EXT_CRL_DISTRIBUTION_POINTS)
            .peekable();
        // A certificate without distribution points may be on any list of its issuer; one whose
        // points cannot be read is on none that is known.
        points.peek().is_none()
            || points
                .filter_map(distribution_points)
                .flat_map(|all| all.iter())
                .any(|point| {
                    point.reasons.is_none()
                        && point.crl_issuer.is_none()
                        && uris(point.distribution_point.as_ref()).any(|uri| self.has(uri))
                })
    }

    fn has(&self, uri: &str) -> bool {
        self.uris.iter().any(|known| known == uri)
    }
}

fn uris<'a>(point: Option<&'a DistributionPointName<'a>>) -> impl Iterator<Item = &'a str> {
    let names = match point {
        Some(DistributionPointName::FullName(names)) => names.as_slice(),
        Some(DistributionPointName::NameRelativeToCRLIssuer(_)) | None => &[],
    };
    names.iter().filter_map(|name| {
        if let GeneralName::URI(uri) = name {
            Some(*uri)
        } else {
            None
        }
    })
}

fn distribution_points<'a>(
    extension: &'a X509Extension<'a>,
) -> Option<&'a CRLDistributionPoints<'a>> {
    if let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() {
        Some(points)
    } else {
        None
    }
}

fn scope(list: &CertificateRevocationList<'_>) -> Result<Option<CrlScope>, &'static str> {
    let mut scopes = list
        .extensions()
        .iter()
        .filter(|one| one.oid == x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
    let Some(scope) = scopes.next() else {
        return Ok(None);
    };
    let ParsedExtension::IssuingDistributionPoint(point) = scope.parsed_extension() else {
        return Err("has a malformed issuing distribution point");
    };
    Ok(Some(CrlScope {
        der: scope.value.to_vec(),
        only_clients: point.only_contains_user_certs,
        only_authorities: point.only_contains_ca_certs,
        uris: uris(point.distribution_point.as_ref())
            .map(str::to_owned)
            .collect(),
    }))
}

/// Returns the authority that signed a list.
fn issuer(
    list: &CertificateRevocationList<'_>,
    authorities: &[CertificateDer<'_>],
) -> Result<CrlIssuer, &'static str> {
    let (signed, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
    for authority in authorities {
        let Ok((_, parsed)) = X509Certificate::from_der(authority) else {
            continue;
        };
        if parsed.subject().as_raw() == list.issuer().as_raw()
            && has_signed(authority, signed, signature)
        {
            profile::check_list(list, &parsed)?;
            return CrlIssuer::of(authority).map_err(|_| "has a malformed issuer");
        }
    }
    Err("was not signed by a client authority")
}

/// Returns true if this certificate's key made the signature, with one of the algorithms that are
/// supported for clients' chains.
pub(crate) fn has_signed(signer: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    EndEntityCert::try_from(signer).is_ok_and(|signer| {
        webpki::ALL_VERIFICATION_ALGS.iter().any(|algorithm| {
            signer
                .verify_signature(*algorithm, message, signature)
                .is_ok()
        })
    })
}
