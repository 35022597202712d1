//! Effective revocation lists, by the key of their issuer.

use std::collections::BTreeMap;

use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use webpki::{Cert, VerifiedPath};

use super::crl::{CrlIdentity, CrlIssuer, CrlVersion, VerifiedCrl};
use crate::files::ExpiredLists;

/// The effective revocation lists ([`VerifiedCrl`]): the newest of each authority's key and each
/// scope.
#[derive(Debug, Default)]
pub(super) struct RevocationLists {
    lists: BTreeMap<CrlIssuer, Vec<VerifiedCrl>>,
    /// Lists that were effective before and have no list of their scope now. An older list must not
    /// return in two steps.
    gone: BTreeMap<CrlIssuer, Vec<CrlIdentity>>,
}

/// Refusal to replace a revocation list by an older one of the same issuer and scope.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "a revocation list of {signer} ({older}) is older than the one in force ({newer}); install a \
     newer one, or restart to accept this one"
)]
pub struct CrlRollback {
    signer: String,
    older: CrlVersion,
    newer: CrlVersion,
}

impl RevocationLists {
    /// Adds a list. Of its issuer's lists of the same scope only the newest is effective; of two
    /// that are equally new both are. Returns a warning if one is not effective.
    pub(super) fn add(&mut self, issuer: CrlIssuer, list: VerifiedCrl) -> Option<String> {
        let lists = self.lists.entry(issuer).or_default();
        if lists.iter().any(|known| known.is(&list)) {
            return Some(format!("duplicate list of {list}"));
        }
        let unused = |older: &VerifiedCrl, newer: &VerifiedCrl| {
            let newer = newer.version();
            Some(format!("the list of {older} is ignored; {newer} is newer"))
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

    /// Returns the effective lists.
    pub(super) fn lists(&self) -> impl Iterator<Item = &VerifiedCrl> {
        self.lists.values().flatten()
    }

    /// Prepares to replace `former`: remembers its lists that have no successor here.
    ///
    /// # Errors
    ///
    /// A list here is older than the last one of the same issuer and scope.
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

    /// Returns the identities of the effective lists, and of former ones that have no successor.
    fn marks(&self) -> impl Iterator<Item = (&CrlIssuer, &CrlIdentity)> {
        let lists = self.lists.iter();
        let lists = lists.flat_map(|(issuer, all)| all.iter().map(move |one| (issuer, one.mark())));
        let gone = self.gone.iter();
        lists.chain(gone.flat_map(|(issuer, all)| all.iter().map(move |mark| (issuer, mark))))
    }

    /// Looks up each certificate of a path in the lists of its issuer.
    ///
    /// Returns the time until which the result is valid: the earliest end of a list that it depends
    /// on. `None` is for ever: there is not a list at all, or expired lists are accepted.
    pub(super) fn check(
        &self,
        path: &VerifiedPath<'_>,
        expired_lists: ExpiredLists,
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
        // This is checked first: an expired list for another certificate must not hide a
        // revocation.
        if links.iter().any(|(key, one)| self.revokes(key, one)) {
            return Err(webpki::Error::CertRevoked);
        }
        let mut until = None;
        for (index, (issuer, certificate)) in links.iter().enumerate() {
            let ends = self.look_up(issuer, (certificate, index > 0), expired_lists, now)?;
            until = until.into_iter().chain(ends).min();
        }
        Ok(until)
    }

    /// Returns this authority as an issuer, if there is a list of it.
    pub(super) fn issuer(&self, authority: &CertificateDer<'_>) -> Option<CrlIssuer> {
        let issuer = CrlIssuer::of(authority).ok()?;
        self.lists.contains_key(&issuer).then_some(issuer)
    }

    /// Returns true if an issuer has revoked a certificate, which must be one of its own.
    pub(super) fn revokes(&self, issuer: &CrlIssuer, certificate: &Cert<'_>) -> bool {
        let mut lists = self.lists.get(issuer).into_iter().flatten();
        lists.any(|list| list.revokes(certificate))
    }

    /// Returns the time until which the lists of its issuer cover a certificate that is on none of
    /// them.
    ///
    /// # Errors
    ///
    /// No list covers it (`UnknownRevocationStatus`), or only lists that have expired and are not
    /// accepted (`CrlExpired`).
    fn look_up(
        &self,
        issuer: &CrlIssuer,
        (certificate, is_authority): (&Cert<'_>, bool),
        expired_lists: ExpiredLists,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, webpki::Error> {
        let lists = self.lists.get(issuer).map_or(&[][..], Vec::as_slice);
        let ends = lists
            .iter()
            .filter(|list| list.covers(certificate, is_authority))
            .map(VerifiedCrl::next_update)
            .max()
            .ok_or(webpki::Error::UnknownRevocationStatus)?;
        match expired_lists {
            ExpiredLists::Accept => Ok(None),
            ExpiredLists::Refuse if now < ends => Ok(Some(ends)),
            ExpiredLists::Refuse => Err(webpki::Error::CrlExpired {
                time: now,
                next_update: ends,
            }),
        }
    }
}
