//! The client authorities that the gateway trusts, and their revocation lists.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::dated_item::{DatedItem, DatedKind};
use crate::expiry::Lifetime;
use crate::files::{ExpiredLists, SettingsFile, SettingsFinding};
use crate::identity::Fingerprint;

mod authority;
pub(crate) mod chain_cache;
mod crl;
mod files;
mod profile;
mod revocations;
mod subjects;
mod untrusted;
pub(crate) mod validity;
mod warnings;

use authority::{ClientAuthority, is_signed_by, keep_those_signed_by};
use crl::VerifiedCrl;
pub(crate) use crl::has_signed;
use files::{CERTIFICATE, REVOCATION_LIST};
pub use files::{FileCertificate, TrustError, certificates};
pub(crate) use files::{foreign, sections};
pub use revocations::CrlRollback;
use revocations::RevocationLists;
pub(crate) use untrusted::bound;
pub use untrusted::{LARGEST_CHAIN, MOST_INTERMEDIATES, UntrustedChain};
use validity::{ValidityPeriod, unix};

/// The client authorities and their revocation lists, as loaded at one moment.
#[derive(Debug)]
pub struct ClientTrust {
    anchors: Vec<TrustAnchor<'static>>,
    /// Contents of the anchors' certificates that the anchors do not have, in the same order.
    authorities: Vec<ClientAuthority>,
    /// Names in DER of those authorities that have an issuer of their own.
    intermediates: Vec<Vec<u8>>,
    subjects: Vec<DistinguishedName>,
    revocations: RevocationLists,
    expired_lists: ExpiredLists,
    content: Vec<Fingerprint>,
    findings: Vec<SettingsFinding>,
}

/// A client's chain that was verified.
#[derive(Debug)]
pub(crate) struct VerifiedChain {
    /// The intermediates on the path from the leaf to an authority.
    pub(crate) intermediates: Vec<CertificateDer<'static>>,
    /// Time at which the first certificate on the path expires, including the authority's.
    pub(crate) certificates_end: UnixTime,
    /// Earliest `nextUpdate` of the revocation lists that the result depends on.
    lists_end: Option<UnixTime>,
}

impl VerifiedChain {
    /// Returns the time until which verifying the chain again would give the same result.
    pub(crate) fn holds_until(&self) -> UnixTime {
        self.lists_end
            .map_or(self.certificates_end, |end| end.min(self.certificates_end))
    }
}

impl ClientTrust {
    /// Loads authorities from one PEM file and revocation lists from any number of files.
    ///
    /// All files must be valid: one that is missing, empty, incomplete or has other contents is an
    /// error, so that a mistake neither adds nor removes trusted clients. A list must be signed by
    /// one of the authorities, or by an intermediate that is in the list's own file and was signed
    /// by one of them.
    ///
    /// # Errors
    ///
    /// One error for each file that is not valid.
    pub fn load(
        authorities: &Path,
        lists: &[PathBuf],
        expired_lists: ExpiredLists,
    ) -> Result<Self, Vec<(SettingsFile, TrustError)>> {
        let mut faults = Vec::new();
        let trust = Self::of_authorities(authorities, expired_lists);
        let (mut trust, certificates) = match trust {
            Ok(trust) => trust,
            Err(error) => {
                faults.push((SettingsFile::ClientCa, error));
                for (index, list) in lists.iter().enumerate() {
                    let unreadable = sections(list).err();
                    faults.extend(unreadable.map(|error| (SettingsFile::List(index), error)));
                }
                return Err(faults);
            }
        };
        let mut signers = certificates.clone();
        for (index, list) in lists.iter().enumerate() {
            match trust.add_lists(SettingsFile::List(index), list, &certificates) {
                Ok(intermediates) => signers.extend(intermediates),
                Err(error) => faults.push((SettingsFile::List(index), error)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        trust.revoke_authorities(&certificates, &signers);
        Ok(trust)
    }

    /// Loads the authorities without revocation lists, and returns their certificates as well.
    fn of_authorities(
        path: &Path,
        expired_lists: ExpiredLists,
    ) -> Result<(Self, Vec<CertificateDer<'static>>), TrustError> {
        let certificates = certificates(path)?;
        let mut trust = Self {
            anchors: Vec::new(),
            authorities: Vec::new(),
            intermediates: Vec::new(),
            subjects: Vec::new(),
            revocations: RevocationLists::default(),
            expired_lists,
            content: Vec::new(),
            findings: Vec::new(),
        };
        for FileCertificate { der, line } in &certificates {
            trust
                .add_authority(der)
                .map_err(|what| TrustError::NotAuthority {
                    path: path.to_owned(),
                    line: *line,
                    what,
                })?;
        }
        let too_large = subjects::bound(&mut trust.subjects, path);
        trust.findings.extend(too_large);
        let certificates = certificates.into_iter().map(|one| one.der).collect();
        Ok((trust, certificates))
    }

    fn add_authority(&mut self, certificate: &CertificateDer<'_>) -> Result<(), &'static str> {
        let parsed = authority::parse(certificate)?;
        profile::check_authority(&parsed)?;
        let anchor = webpki::anchor_from_trusted_cert(certificate)
            .map_err(|_| "it cannot be a trust anchor")?
            .to_owned();
        self.authorities.push(ClientAuthority::of(&parsed));
        if parsed.issuer().as_raw() != parsed.subject().as_raw() {
            self.intermediates.push(parsed.subject().as_raw().to_vec());
        }
        self.subjects
            .push(DistinguishedName::from(parsed.subject().as_raw().to_vec()));
        self.content.push(Fingerprint::of(certificate));
        self.anchors.push(anchor);
        Ok(())
    }

    /// Adds the revocation lists of a file. Returns the intermediates in it that may sign lists.
    fn add_lists(
        &mut self,
        file: SettingsFile,
        path: &Path,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let mut issuers = authorities.to_vec();
        let mut lists = Vec::new();
        for section in sections(path)? {
            match &*section.label {
                REVOCATION_LIST => {
                    self.content.push(Fingerprint::of(&section.der));
                    lists.push(section);
                }
                CERTIFICATE => issuers.push(section.der.into()),
                _ => return Err(foreign(path, section)),
            }
        }
        keep_those_signed_by(&mut issuers, authorities.len());
        if lists.is_empty() {
            return Err(TrustError::Empty {
                path: path.to_owned(),
                what: "revocation list",
            });
        }
        for section in &lists {
            let refused = |what| TrustError::Revocations {
                path: path.to_owned(),
                line: section.line,
                what,
            };
            let (issuer, list) =
                VerifiedCrl::read(&section.der, file, &issuers).map_err(refused)?;
            if let Some(unused) = self.revocations.add(issuer, list) {
                let place = format!("{}:{}", path.display(), section.line);
                self.findings
                    .push(SettingsFinding::new(file, unused).within(place));
            }
        }
        Ok(issuers.split_off(authorities.len()))
    }

    /// Marks those authorities that one of these signers has issued and revoked. The verification
    /// of a path does not check them, since anchors are not certificates on the path.
    fn revoke_authorities(
        &mut self,
        certificates: &[CertificateDer<'_>],
        signers: &[CertificateDer<'_>],
    ) {
        let issuers: Vec<_> = signers
            .iter()
            .filter_map(|der| Some((self.revocations.issuer(der)?, der)))
            .collect();
        for (authority, der) in self.authorities.iter_mut().zip(certificates) {
            let Ok(certificate) = EndEntityCert::try_from(der) else {
                continue;
            };
            authority.is_revoked = issuers.iter().any(|(issuer, signer)| {
                issuer.has_name(certificate.issuer())
                    && self.revocations.revokes(issuer, &certificate)
                    && is_signed_by(der, signer)
            });
        }
    }

    /// Returns the authorities' names, which the handshake sends so that clients can choose a
    /// certificate.
    pub fn subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    /// Returns true if an authority with this name, in DER, has an issuer of its own.
    pub(crate) fn is_intermediate(&self, name: &[u8]) -> bool {
        self.intermediates.iter().any(|known| known == name)
    }

    /// Returns the number of authorities, and a description of each effective revocation list.
    pub fn summary(&self) -> (usize, Vec<String>) {
        let lists = self.revocations.lists().map(ToString::to_string);
        (self.anchors.len(), lists.collect())
    }

    /// Returns the current warnings about the authorities and their revocation lists, except that
    /// they end.
    pub(crate) fn warnings(&self, now: UnixTime) -> Vec<SettingsFinding> {
        let mut findings = self.findings.clone();
        findings.extend(warnings::of_authorities(&self.authorities, now));
        findings
    }

    /// Returns the authorities that are not revoked, and the effective revocation lists, with their
    /// dates.
    pub(crate) fn dated(&self) -> Vec<DatedItem> {
        let authorities = self.authorities.iter().zip(&self.content);
        let authorities = authorities.filter(|(authority, _)| !authority.is_revoked);
        let authorities = authorities.map(|(authority, fingerprint)| DatedItem {
            kind: DatedKind::ClientAuthority,
            file: SettingsFile::ClientCa,
            subject: authority.name.clone(),
            lifetime: Lifetime::of_certificate(authority.period),
            fingerprint: *fingerprint,
            advice: "its clients are refused after that; add its successor to the file",
        });
        let lists = self.revocations.lists();
        let lists = lists.map(|list| list.dated(self.expired_lists));
        authorities.chain(lists).collect()
    }

    /// Returns true if the other trust has the same contents, so that it verifies every chain with
    /// the same result.
    pub fn is_the_same(&self, other: &Self) -> bool {
        self.content == other.content && self.expired_lists == other.expired_lists
    }

    /// Returns the number of authorities that are valid at this time, and the number of all.
    pub fn valid_authorities(&self, now: UnixTime) -> (usize, usize) {
        let valid = warnings::valid(&self.authorities, now);
        (valid, self.authorities.len())
    }

    /// Returns true if clients can be verified now: at least one authority is valid, or nothing has
    /// changed since `former`, which may stay in force after its end.
    pub(crate) fn check_dates(&self, former: Option<&Self>, now: UnixTime) -> bool {
        self.valid_authorities(now).0 > 0 || former.is_some_and(|former| self.is_the_same(former))
    }

    /// Prepares to replace `former`.
    ///
    /// # Errors
    ///
    /// [`CrlRollback`] if a revocation list here is older than the one in `former` with the same
    /// issuer and scope.
    pub fn follow(&mut self, former: &Self) -> Result<(), CrlRollback> {
        self.revocations.follow(&former.revocations)
    }

    /// Verifies a client's chain: first its size, then the path with its dates, its purpose and the
    /// revocation of each certificate on it.
    ///
    /// # Errors
    ///
    /// [`UntrustedChain`] with the first fault that was found.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<VerifiedChain, UntrustedChain> {
        bound(leaf, intermediates)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(UntrustedChain::Chain)?;
        let lists_end = Cell::new(None);
        let verify_path = |path: &VerifiedPath<'_>| {
            self.anchor_ends(path, now)?;
            let ends = self.revocations.check(path, self.expired_lists, now)?;
            lists_end.set(ends);
            Ok(())
        };
        let path = leaf
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                Some(&verify_path),
            )
            .map_err(UntrustedChain::Chain)?;
        let anchor_ends = self.anchor_ends(&path, now);
        let mut certificates_end = anchor_ends.map_err(UntrustedChain::Chain)?;
        let used = path.intermediate_certificates();
        let used: Vec<_> = used.map(|one| one.der().into_owned()).collect();
        let leaf = leaf.der();
        for (index, certificate) in std::iter::once(&leaf).chain(&used).enumerate() {
            let (_, parsed) = X509Certificate::from_der(certificate)
                .map_err(|_| UntrustedChain::Chain(webpki::Error::BadDer))?;
            profile::check_shown(&parsed, index == 0).map_err(UntrustedChain::Chain)?;
            certificates_end = certificates_end.min(unix(ValidityPeriod::read(&parsed).not_after));
        }
        Ok(VerifiedChain {
            intermediates: used,
            certificates_end,
            lists_end: lists_end.get(),
        })
    }

    /// Returns true if a chain that was trusted when its connection began is still trusted. An
    /// expired revocation list does not change that; it only blocks new connections until there is
    /// a new list.
    pub fn still_holds(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        matches!(
            self.verify(leaf, intermediates, now),
            Ok(_) | Err(UntrustedChain::Chain(webpki::Error::CrlExpired { .. }))
        )
    }

    /// Returns the time at which the path's anchor expires. An anchor may be present several times,
    /// with the same key and different dates: the one that is valid longest counts.
    ///
    /// # Errors
    ///
    /// No such anchor is valid now for this path.
    fn anchor_ends(
        &self,
        path: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<UnixTime, webpki::Error> {
        let mut verdict = Err(webpki::Error::UnknownIssuer);
        for (known, authority) in self.anchors.iter().zip(&self.authorities) {
            if known != path.anchor() {
                continue;
            }
            match (authority.check(path, now), &verdict) {
                (Ok(end), Ok(latest)) => verdict = Ok(end.max(*latest)),
                (Ok(end), Err(_)) => verdict = Ok(end),
                (Err(error), Err(_)) => verdict = Err(error),
                (Err(_), Ok(_)) => {}
            }
        }
        verdict
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "certificates are issued for now")]
mod tests;
