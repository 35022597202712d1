//! Whom the gateway believes: the client authorities, and what they have revoked.

use std::path::{Path, PathBuf};

use rustls::DistinguishedName;
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    RevocationOptionsBuilder,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::identity::Fingerprint;
use crate::policy::ExpiredCrl;

mod files;
pub(crate) mod memory;
mod untrusted;

pub use files::{TrustError, certificates};
use files::{foreign_section, sections};
pub use untrusted::Untrusted;

/// The most intermediates that a client may show.
pub const MOST_INTERMEDIATES: usize = 3;
/// The most bytes of DER that a client's whole chain may have.
pub const LARGEST_CHAIN: usize = 16 * 1024;

/// The client authorities and their revocations, as loaded at one moment.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    periods: Vec<Period>,
    subjects: Vec<DistinguishedName>,
    revocations: Vec<CertRevocationList<'static>>,
    expired_crl: ExpiredCrl,
    /// When the first of the revocation lists is to have a successor, in seconds of Unix time.
    next_update: Option<u64>,
    content: Vec<Fingerprint>,
}

/// When an anchor is valid, in seconds of Unix time. The path's verification does not ask.
#[derive(Debug, Clone, Copy)]
struct Period {
    not_before: u64,
    not_after: u64,
}

impl Trust {
    /// Loads authorities from one PEM file and revocation lists from any number.
    ///
    /// All or nothing: a file that is missing, empty, half written or holds anything else is an
    /// error, so that a slip never widens nor narrows who is believed. A list must be signed by one
    /// of the authorities, or by an intermediate that stands in the list's own file and was signed
    /// by one of them.
    pub fn load(
        authorities: &Path,
        lists: &[PathBuf],
        expired_crl: ExpiredCrl,
        now: UnixTime,
    ) -> Result<Self, TrustError> {
        let certificates = certificates(authorities)?;
        let mut trust = Self {
            anchors: Vec::new(),
            periods: Vec::new(),
            subjects: Vec::new(),
            revocations: Vec::new(),
            expired_crl,
            next_update: None,
            content: certificates.iter().map(Fingerprint::of).collect(),
        };
        for (index, certificate) in certificates.iter().enumerate() {
            trust
                .add_authority(certificate)
                .map_err(|what| TrustError::NotAuthority {
                    path: authorities.to_owned(),
                    number: index + 1,
                    what,
                })?;
        }
        for list in lists {
            trust.add_lists(list, &certificates, now)?;
        }
        Ok(trust)
    }

    fn add_authority(&mut self, certificate: &CertificateDer<'_>) -> Result<(), &'static str> {
        let parsed = authority(certificate)?;
        let anchor = webpki::anchor_from_trusted_cert(certificate)
            .map_err(|_| "it cannot be an anchor")?
            .to_owned();
        self.periods.push(Period {
            not_before: seconds(parsed.validity().not_before.timestamp()),
            not_after: seconds(parsed.validity().not_after.timestamp()),
        });
        self.subjects
            .push(DistinguishedName::from(parsed.subject().as_raw().to_vec()));
        self.anchors.push(anchor);
        Ok(())
    }

    fn add_lists(
        &mut self,
        path: &Path,
        authorities: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), TrustError> {
        let mut issuers = authorities.to_vec();
        let mut lists = Vec::new();
        for (kind, der) in sections(path)? {
            if kind == SectionKind::Crl {
                lists.push(CertificateRevocationListDer::from(der));
            } else if kind == SectionKind::Certificate {
                issuers.push(CertificateDer::from(der));
            } else {
                return Err(foreign_section(path));
            }
        }
        if lists.is_empty() {
            return Err(TrustError::Empty {
                path: path.to_owned(),
                what: "revocation list",
            });
        }
        for (index, list) in lists.iter().enumerate() {
            let refused = |what| TrustError::Revocations {
                path: path.to_owned(),
                number: index + 1,
                what,
            };
            let next = check_list(list, &issuers, authorities.len(), self.expired_crl, now)
                .map_err(refused)?;
            self.next_update = Some(self.next_update.map_or(next, |first| first.min(next)));
            self.content.push(Fingerprint::of(list));
            let list = BorrowedCertRevocationList::from_der(list)
                .and_then(|list| list.to_owned())
                .map_err(|_| refused("cannot be read"))?;
            self.revocations.push(list.into());
        }
        Ok(())
    }

    /// The authorities' names, which the handshake tells clients so that they can choose.
    pub fn subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    /// Whether another trust would verify every chain as this one does.
    pub fn is_the_same(&self, other: &Self) -> bool {
        self.content == other.content && self.expired_crl == other.expired_crl
    }

    /// How many of the authorities are valid at this time, and how many there are.
    pub fn valid_authorities(&self, now: UnixTime) -> (usize, usize) {
        let valid = self
            .periods
            .iter()
            .filter(|period| period.check(now).is_ok())
            .count();
        (valid, self.periods.len())
    }

    /// Verifies a client's chain: bounds first, then the path, its dates, its purpose and what was
    /// revoked on the whole of it.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Untrusted> {
        self.path(leaf, intermediates, now).map(drop)
    }

    /// Verifies a client's chain, and returns those of the intermediates that lead to an authority.
    pub(crate) fn path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Vec<CertificateDer<'static>>, Untrusted> {
        bound(leaf, intermediates)?;
        let lists: Vec<&CertRevocationList<'_>> = self.revocations.iter().collect();
        let expiration = match self.expired_crl {
            ExpiredCrl::Refuse => ExpirationPolicy::Enforce,
            ExpiredCrl::Accept => ExpirationPolicy::Ignore,
        };
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(expiration).build());
        let leaf = EndEntityCert::try_from(leaf).map_err(Untrusted::Chain)?;
        let path = leaf
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                intermediates,
                now,
                KeyUsage::client_auth(),
                revocation,
                Some(&|path| self.check_anchor(path.anchor(), now)),
            )
            .map_err(Untrusted::Chain)?;
        let used = path.intermediate_certificates();
        Ok(used.map(|one| one.der().into_owned()).collect())
    }

    /// Until when a chain that verifies now goes on to do so: to the end of the first thing that has one,
    /// of all that may be on its path. `None` if that cannot be said. `intermediates` are those on the path.
    pub(crate) fn holds_until(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<UnixTime> {
        let ends = |certificate: &CertificateDer<'_>| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            Some(seconds(parsed.validity().not_after.timestamp()))
        };
        let shown = std::iter::once(leaf).chain(intermediates);
        let shown = shown.map(ends).collect::<Option<Vec<_>>>()?;
        let valid = self.periods.iter().filter(|one| one.check(now).is_ok());
        let lists = match self.expired_crl {
            ExpiredCrl::Refuse => self.next_update,
            ExpiredCrl::Accept => None,
        };
        let all = shown.into_iter().chain(valid.map(|one| one.not_after));
        all.chain(lists).min().map(unix)
    }

    /// An anchor may be given twice, with the same key and other dates: any valid one will do.
    fn check_anchor(&self, anchor: &TrustAnchor<'_>, now: UnixTime) -> Result<(), webpki::Error> {
        let mut verdict = Err(webpki::Error::UnknownIssuer);
        for (known, period) in self.anchors.iter().zip(&self.periods) {
            if known == anchor && verdict.is_err() {
                verdict = period.check(now);
            }
        }
        verdict
    }
}

impl Period {
    fn check(self, now: UnixTime) -> Result<(), webpki::Error> {
        if now.as_secs() < self.not_before {
            let not_before = unix(self.not_before);
            return Err(webpki::Error::CertNotValidYet {
                time: now,
                not_before,
            });
        }
        if now.as_secs() > self.not_after {
            let not_after = unix(self.not_after);
            return Err(webpki::Error::CertExpired {
                time: now,
                not_after,
            });
        }
        Ok(())
    }
}

/// Refuses what would cost too much to look at.
pub(crate) fn bound(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Untrusted> {
    let bytes = leaf.len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
    if intermediates.len() > MOST_INTERMEDIATES || bytes > LARGEST_CHAIN {
        return Err(Untrusted::TooLarge {
            intermediates: intermediates.len(),
            bytes,
        });
    }
    Ok(())
}

fn authority<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, &'static str> {
    match X509Certificate::from_der(certificate) {
        Ok((rest, parsed)) if rest.is_empty() && parsed.is_ca() => Ok(parsed),
        Ok(([], _)) => Err("basicConstraints does not say so"),
        Ok(_) | Err(_) => Err("it cannot be read"),
    }
}

fn check_list(
    list: &CertificateRevocationListDer<'_>,
    issuers: &[CertificateDer<'_>],
    authorities: usize,
    expired_crl: ExpiredCrl,
    now: UnixTime,
) -> Result<u64, &'static str> {
    let (rest, parsed) = CertificateRevocationList::from_der(list).map_err(|_| "cannot be read")?;
    if !rest.is_empty() {
        return Err("has bytes behind its end");
    }
    let next_update = parsed
        .next_update()
        .ok_or("does not say when its successor is due")?;
    let next_update = seconds(next_update.timestamp());
    if expired_crl == ExpiredCrl::Refuse && next_update < now.as_secs() {
        return Err("is past its nextUpdate: issue a new one, or set `expired_crl: accept`");
    }
    let signed = issuers.iter().enumerate().any(|(index, issuer)| {
        authority(issuer).is_ok_and(|issuer| {
            issuer.subject().as_raw() == parsed.issuer().as_raw()
                && parsed.verify_signature(issuer.public_key()).is_ok()
                && (index < authorities || is_signed_by(&issuer, &issuers[..authorities]))
        })
    });
    if signed {
        Ok(next_update)
    } else {
        Err("was not signed by a client authority")
    }
}

fn is_signed_by(certificate: &X509Certificate<'_>, authorities: &[CertificateDer<'_>]) -> bool {
    authorities.iter().any(|issuer| {
        authority(issuer).is_ok_and(|issuer| {
            certificate
                .verify_signature(Some(issuer.public_key()))
                .is_ok()
        })
    })
}

fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
