//! What authorities have taken back, by the key of the authority.

use std::collections::BTreeMap;

use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use webpki::{Cert, VerifiedPath};

use super::crl::{CrlIdentity, CrlIssuer, CrlVersion, VerifiedCrl};
use crate::policy::ExpiredCrl;

/// The revocation lists that count: of each authority's key and each scope the newest.
#[derive(Debug, Default)]
pub(super) struct RevocationLists {
    lists: BTreeMap<CrlIssuer, Vec<VerifiedCrl>>,
    /// What counted before and has no list of its scope now. An older one must not come back in two steps.
    gone: BTreeMap<CrlIssuer, Vec<CrlIdentity>>,
}

/// A list would take the place of a newer one of the same issuer and scope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "a revocation list of {signer} ({older}) is older than the one that is in force ({newer}): give a newer one, \
     or restart to accept it"
)]
pub struct CrlRollback {
    signer: String,
    older: CrlVersion,
    newer: CrlVersion,
}

impl RevocationLists {
    /// Adds a list. Of its issuer's lists of the same scope only the newest counts; of two that are equally new
    /// both do. Says so if one does not count.
    pub(super) fn add(&mut self, issuer: CrlIssuer, list: VerifiedCrl) -> Option<String> {
        let lists = self.lists.entry(issuer).or_default();
        if lists.iter().any(|known| known.is(&list)) {
            return Some(format!("the list of {list} is here twice"));
        }
        let unused = |older: &VerifiedCrl, newer: &VerifiedCrl| {
            let newer = newer.version();
            Some(format!("the list of {older} does not count beside {newer}"))
        };
        let Some(known) = lists.iter().find(|known| known.has_scope_of(&list)) else {
            lists.push(list);
            return None;
        };
        if known.version() > list.version() {
            return unused(&list, known);
        }
        let mut finding = None;
        if known.version() < list.version() {
            finding = unused(known, &list);
            lists.retain(|known| !known.has_scope_of(&list));
        }
        lists.push(list);
        finding
    }

    /// The lists that count.
    pub(super) fn lists(&self) -> impl Iterator<Item = &VerifiedCrl> {
        self.lists.values().flatten()
    }

    /// Takes the place of `former`, unless a list is older than the last one of the same issuer and scope was there.
    pub(super) fn follow(&mut self, former: &Self) -> Result<(), CrlRollback> {
        for (issuer, before) in former.marks() {
            let lists = self.lists.get(issuer).map_or(&[][..], Vec::as_slice);
            let mut same = lists
                .iter()
                .map(VerifiedCrl::mark)
                .filter(|mark| mark.has_scope_of(before))
                .peekable();
            if same.peek().is_none() {
                let gone = self.gone.entry(issuer.clone()).or_default();
                if !gone.contains(before) {
                    gone.push(before.clone());
                }
            }
            if let Some(older) = same.find(|mark| mark.version() < before.version()) {
                return Err(CrlRollback {
                    signer: before.signer().to_owned(),
                    older: older.version().clone(),
                    newer: before.version().clone(),
                });
            }
        }
        Ok(())
    }

    /// The lists that count, and those that counted before and have no successor.
    fn marks(&self) -> impl Iterator<Item = (&CrlIssuer, &CrlIdentity)> {
        let lists = self.lists.iter();
        let lists = lists.flat_map(|(issuer, all)| all.iter().map(move |one| (issuer, one.mark())));
        let gone = self.gone.iter();
        lists.chain(gone.flat_map(|(issuer, all)| all.iter().map(move |mark| (issuer, mark))))
    }

    /// Looks up each certificate of a path in the lists of its issuer.
    ///
    /// Returns until when this holds: the first end of a list that it depends on. Without any list everything
    /// holds for ever.
    pub(super) fn check(
        &self,
        path: &VerifiedPath<'_>,
        expired_crl: ExpiredCrl,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, webpki::Error> {
        if self.lists.is_empty() {
            return Ok(None);
        }
        let mut links = Vec::new();
        let mut certificate: &Cert<'_> = path.end_entity();
        for issuer in path.intermediate_certificates() {
            links.push((CrlIssuer::of(&issuer.der())?, certificate));
            certificate = issuer;
        }
        let anchor = path.anchor();
        let anchor = CrlIssuer::new(&anchor.subject, &anchor.subject_public_key_info);
        links.push((anchor, certificate));
        // First of all: that another certificate's list has ended must not hide it.
        if links.iter().any(|(key, one)| self.revokes(key, one)) {
            return Err(webpki::Error::CertRevoked);
        }
        let mut until = None;
        for (index, (issuer, certificate)) in links.iter().enumerate() {
            let ends = self.look_up(issuer, (certificate, index > 0), expired_crl, now)?;
            until = until.into_iter().chain(ends).min();
        }
        Ok(until)
    }

    /// This authority as an issuer, if there is a list of it.
    pub(super) fn issuer(&self, authority: &CertificateDer<'_>) -> Option<CrlIssuer> {
        let issuer = CrlIssuer::of(authority).ok()?;
        self.lists.contains_key(&issuer).then_some(issuer)
    }

    /// Whether an issuer has taken a certificate back, which must be one of its own.
    pub(super) fn revokes(&self, issuer: &CrlIssuer, certificate: &Cert<'_>) -> bool {
        let mut lists = self.lists.get(issuer).into_iter().flatten();
        lists.any(|list| list.revokes(certificate))
    }

    /// Until when the lists of its issuer speak for a certificate that is on none of them. One that none of them
    /// would name, or only lists that have ended, has an unknown status.
    fn look_up(
        &self,
        issuer: &CrlIssuer,
        (certificate, is_authority): (&Cert<'_>, bool),
        expired_crl: ExpiredCrl,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, webpki::Error> {
        let lists = self.lists.get(issuer).map_or(&[][..], Vec::as_slice);
        let ends = lists
            .iter()
            .filter(|list| list.covers(certificate, is_authority))
            .map(VerifiedCrl::next_update)
            .max()
            .ok_or(webpki::Error::UnknownRevocationStatus)?;
        match expired_crl {
            ExpiredCrl::Accept => Ok(None),
            ExpiredCrl::Refuse if now < ends => Ok(Some(ends)),
            ExpiredCrl::Refuse => Err(webpki::Error::CrlExpired {
                time: now,
                next_update: ends,
            }),
        }
    }
}
