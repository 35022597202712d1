//! Revocation: certificates are added to the list of their authority, which is signed again.

use std::path::Path;

use time::Duration;

use crate::authority::Authority;
use crate::crl::CrlContents;
use crate::directory::AuthorityDirectory;
use crate::error::CertgenError;
use crate::paths;
use crate::serial::CertificateSerial;
use crate::spec::now;
use crate::store::{DraftFile, FileAccess};

impl Authority {
    /// Revokes certificates permanently: adds them to the `ca.crl` of a directory and signs it
    /// again, valid for `lasting`. Without a serial it only signs the list.
    ///
    /// It waits for the directory's lock, so concurrent calls do not lose entries.
    ///
    /// # Errors
    ///
    /// A list that cannot be read, is not this authority's, or cannot be written.
    pub fn revoke(
        &self,
        dir: &Path,
        serials: &[CertificateSerial],
        lasting: Duration,
    ) -> Result<CrlContents, CertgenError> {
        AuthorityDirectory::lock(dir)?.revoke(self, serials, Some(lasting))
    }
}

impl AuthorityDirectory {
    /// Revokes certificates permanently: adds them to `ca.crl` and signs it again, valid for
    /// `lasting`, or else for as long as the list before, at first 30 days.
    ///
    /// # Errors
    ///
    /// A list that cannot be read, is not this authority's, or cannot be written.
    pub fn revoke(
        &self,
        authority: &Authority,
        serials: &[CertificateSerial],
        lasting: Option<Duration>,
    ) -> Result<CrlContents, CertgenError> {
        let path = paths::crl_path(self.path());
        let old = match CrlContents::load(&path, authority.certificate_der()) {
            Ok(old) => old,
            Err(error) if error.is_not_found() => CrlContents::default(),
            Err(error) => return Err(error),
        };
        let now = now();
        let lasting = old.next_lasts(lasting);
        let updates = now..now.checked_add(lasting).ok_or(CertgenError::Validity)?;
        let new = old.next(serials, &updates)?;
        let list = authority.sign_crl(new.entries(), updates, new.number())?;
        DraftFile::new(&path, list.pem(), FileAccess::Public)?.replace()?;
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::AuthoritySpec;
    use crate::store::Overwrite;

    #[test]
    fn a_list_beside_another_is_not_lost_when_one_is_signed_again() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let path = paths::crl_path(dir.path());
        let mut lists = String::new();
        for _ in 0..2 {
            let gone = authority.client("gone").unwrap().serial().clone();
            authority
                .revoke(dir.path(), &[gone], Duration::days(30))
                .unwrap();
            lists += &std::fs::read_to_string(&path).unwrap();
        }
        let both = format!("{lists}{}", authority.certificate_pem());
        for text in [lists, both] {
            std::fs::write(&path, &text).unwrap();
            let refused = authority
                .revoke(dir.path(), &[], Duration::days(30))
                .unwrap_err();
            assert!(matches!(refused, CertgenError::NotAlone(_)), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
