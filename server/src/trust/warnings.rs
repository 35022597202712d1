//! Warnings about authorities and revocation lists.

use std::path::Path;

use rustls_pki_types::UnixTime;

use super::ClientTrust;
use super::authority::ClientAuthority;
use crate::policy::{ExpiredCrl, TlsFile};
use crate::policy_warning::PolicyWarning;

/// Maximum size in bytes of the authorities' names that a handshake sends. TLS has room for 64 KiB
/// with all else, but Java reads only 32 KiB of a handshake message.
const LARGEST_SUBJECTS: usize = 16 * 1024;

impl ClientTrust {
    /// Removes the authorities' names from handshakes if they are larger than clients can read.
    pub(super) fn bound_subjects(&mut self, authorities: &Path) {
        self.subjects
            .sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        self.subjects
            .dedup_by(|one, other| one.as_ref() == other.as_ref());
        let bytes: usize = self
            .subjects
            .iter()
            .map(|name| 2 + name.as_ref().len())
            .sum();
        if bytes > LARGEST_SUBJECTS {
            let what = PolicyWarning::new(
                TlsFile::ClientCa,
                format_args!(
                    "the names of {} authorities have {bytes} bytes, which clients need not read; no names are \
                     sent, so that a client with several certificates cannot tell which to show",
                    self.subjects.len()
                ),
            );
            self.findings.push(what.within(authorities.display()));
            self.subjects.clear();
        }
    }

    /// Returns the current warnings about the authorities and their revocation lists.
    pub(crate) fn warnings(&self, now: UnixTime) -> Vec<PolicyWarning> {
        let mut findings = self.findings.clone();
        let (valid, all) = self.valid_authorities(now);
        let authorities = TlsFile::ClientCa;
        if valid < all {
            let what = format_args!("{} of {all} authorities are out of date", all - valid);
            findings.push(PolicyWarning::new(authorities, what));
        }
        for authority in &self.authorities {
            let ClientAuthority { name, period, .. } = authority;
            let what = if authority.is_revoked {
                Some("is on its issuer's revocation list: its clients are refused".to_owned())
            } else {
                let is_valid = period.check(now).is_ok();
                is_valid.then(|| period.ending(now)).flatten()
            };
            findings.extend(
                what.map(|what| PolicyWarning::new(authorities, format_args!("{name} {what}"))),
            );
        }
        for list in self.revocations.lists() {
            let Some(what) = list.ending(now) else {
                continue;
            };
            let refused = match self.expired_crl {
                ExpiredCrl::Refuse => "; without one all clients of this authority are refused",
                ExpiredCrl::Accept => "",
            };
            let what = format_args!("the list of {list} {what}{refused}");
            findings.push(PolicyWarning::new(TlsFile::Crl(0), what));
        }
        findings
    }
}
