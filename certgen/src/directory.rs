//! Directory of an authority, changed by one process at a time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use crate::authority::Authority;
use crate::error::CertgenError;
use crate::index::{self, CertificateIndex, IndexEntry};
use crate::issued::IssuedCertificate;
use crate::journal::{self, DirectoryChange};
use crate::paths::{self, CA_STEM, PairPaths};
use crate::signature::signed_leaf;
use crate::spec::{AuthoritySpec, LeafSpec};
use crate::store::{self, Overwrite};
use crate::{certificate_facts, lock};

/// Directory of an authority, locked until this is dropped.
///
/// All changes of a directory wait for its lock, so none sees another half done. A change that a
/// killed process left unfinished is finished when the lock is taken.
#[derive(Debug)]
#[must_use = "the directory is locked until this is dropped"]
pub struct AuthorityDirectory {
    path: PathBuf,
    #[expect(dead_code, reason = "it is held, and unlocks when it is dropped")]
    lock: File,
}

impl AuthorityDirectory {
    /// Locks the directory of an authority; waits for other processes that hold the lock.
    ///
    /// # Errors
    ///
    /// A directory without an authority, a lock that cannot be opened or may be another user's
    /// ([`CertgenError::NotOurs`]), or a change that cannot be finished.
    pub fn lock(path: &Path) -> Result<Self, CertgenError> {
        let certificate = paths::certificate_path(path, CA_STEM);
        if !journal::is_pending(path) {
            fs::metadata(&certificate).map_err(CertgenError::io("read", &certificate))?;
        }
        Self::lock_new(path)
    }

    /// Locks a directory as [`AuthorityDirectory::lock`] does, but needs no authority there, and
    /// makes the directory if it does not exist.
    ///
    /// # Errors
    ///
    /// A lock that cannot be opened or may be another user's ([`CertgenError::NotOurs`]), or a
    /// change that cannot be finished.
    pub fn lock_new(path: &Path) -> Result<Self, CertgenError> {
        fs::create_dir_all(path).map_err(CertgenError::io("create the directory", path))?;
        let directory = Self {
            path: path.to_owned(),
            lock: lock::take(path)?,
        };
        journal::resume(path)?;
        Ok(directory)
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the authority of the directory, as [`Authority::load`] does.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a certificate and key that do not belong together.
    pub fn authority(&self) -> Result<Authority, CertgenError> {
        Authority::load(&self.path)
    }

    /// Writes an authority; the revocation list of one that it replaces is removed.
    ///
    /// # Errors
    ///
    /// A file that exists and may not be replaced ([`CertgenError::Exists`]), or that cannot be
    /// written.
    pub fn create(&self, authority: &Authority, overwrite: Overwrite) -> Result<(), CertgenError> {
        let (key, certificate) = authority.drafts(&self.path)?;
        let mut change = DirectoryChange::new(overwrite);
        change.pair(key, certificate);
        if overwrite == Overwrite::Replace {
            change.remove(paths::crl_path(&self.path));
        }
        change.commit(&self.path)
    }

    /// Issues leaves and writes each as `<stem>.crt` and `<stem>.key`, all of them or none.
    ///
    /// # Errors
    ///
    /// A name or validity that a leaf may not have, or a file that exists and may not be replaced
    /// ([`CertgenError::Exists`]).
    pub fn issue(
        &self,
        authority: &Authority,
        leaves: &[(String, LeafSpec)],
        overwrite: Overwrite,
    ) -> Result<Vec<IssuedCertificate>, CertgenError> {
        if overwrite == Overwrite::Refuse {
            for (stem, _) in leaves {
                store::refuse_existing(&paths::certificate_path(&self.path, stem))?;
                store::refuse_existing(&paths::key_path(&self.path, stem))?;
            }
        }
        let index = self.index_of(authority.certificate_der())?;
        let mut change = DirectoryChange::new(overwrite);
        let mut issued = Vec::with_capacity(leaves.len());
        for (stem, spec) in leaves {
            let leaf = authority.issue(spec)?;
            self.place(
                &mut change,
                &leaf,
                &PairPaths::of_stem(&self.path, stem),
                index.as_ref(),
            )?;
            issued.push(leaf);
        }
        change.commit(&self.path)?;
        Ok(issued)
    }

    /// Writes a leaf that was issued in memory, and adds it to the index.
    pub(crate) fn save(
        &self,
        leaf: &IssuedCertificate,
        stem: &str,
        overwrite: Overwrite,
    ) -> Result<(), CertgenError> {
        let index = self.index_of(leaf.issuer())?;
        let mut change = DirectoryChange::new(overwrite);
        self.place(
            &mut change,
            leaf,
            &PairPaths::of_stem(&self.path, stem),
            index.as_ref(),
        )?;
        change.commit(&self.path)
    }

    /// Replaces a certificate and its key by those of a new leaf, and adds it to the index.
    pub(crate) fn replace(
        &self,
        leaf: &IssuedCertificate,
        files: &PairPaths,
    ) -> Result<(), CertgenError> {
        let index = self.index_of(leaf.issuer())?;
        let mut change = DirectoryChange::new(Overwrite::Replace);
        self.place(&mut change, leaf, files, index.as_ref())?;
        change.commit(&self.path)
    }

    /// Adds a leaf to a change: its two files, and its entry if there is an index.
    ///
    /// A certificate of the same authority that it replaces is noted in the entry, and gets an
    /// entry of its own if it has none.
    fn place(
        &self,
        change: &mut DirectoryChange,
        leaf: &IssuedCertificate,
        files: &PairPaths,
        index: Option<&CertificateIndex>,
    ) -> Result<(), CertgenError> {
        let (key, certificate) = leaf.drafts(files)?;
        change.pair(key, certificate);
        let Some(index) = index else {
            return Ok(());
        };
        let (issuer, file) = (leaf.issuer(), self.indexed_path(&files.certificate));
        let old = certificate_facts::load(&files.certificate)
            .ok()
            .filter(|old| signed_leaf(old, issuer))
            .and_then(|old| IndexEntry::of(&old, issuer, &file, None));
        let replaces = old.as_ref().map(|old| old.serial.clone());
        change.index(old.filter(|old| index.get(&old.serial).is_none()));
        change.index(IndexEntry::of(
            &leaf.certificate_der(),
            issuer,
            &file,
            replaces,
        ));
        Ok(())
    }

    /// Reads the index if `authority` is the one of this directory; `None` for any other.
    fn index_of(
        &self,
        authority: &CertificateDer<'_>,
    ) -> Result<Option<CertificateIndex>, CertgenError> {
        match certificate_facts::load(&paths::certificate_path(&self.path, CA_STEM)) {
            Ok(here) if here == *authority => self.index(authority).map(Some),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Reads the index; if there is none, makes it of the certificates in the directory.
    pub(crate) fn index(
        &self,
        authority: &CertificateDer<'_>,
    ) -> Result<CertificateIndex, CertgenError> {
        if !index::exists(&self.path) {
            let adopted = self.adopt(authority)?;
            index::append(&self.path, &index::lines(&adopted)?)?;
        }
        CertificateIndex::of(&self.path, authority)
    }

    /// Entries for the leaves in the directory that its authority signed, oldest first.
    fn adopt(&self, authority: &CertificateDer<'_>) -> Result<Vec<IndexEntry>, CertgenError> {
        let failed = || CertgenError::io("read", &self.path);
        let mut found = Vec::new();
        for file in fs::read_dir(&self.path).map_err(failed())? {
            let path = file.map_err(failed())?.path();
            let certificate = path.extension().is_some_and(|extension| extension == "crt");
            if !certificate || !path.is_file() {
                continue;
            }
            let Ok(der) = certificate_facts::load(&path) else {
                continue;
            };
            if signed_leaf(&der, authority) {
                found.extend(IndexEntry::of(
                    &der,
                    authority,
                    &self.indexed_path(&path),
                    None,
                ));
            }
        }
        found.sort_by(|one, other| (one.from, &one.serial).cmp(&(other.from, &other.serial)));
        Ok(found)
    }

    /// Path of a file as the index has it: relative to the directory if inside, else absolute.
    fn indexed_path(&self, file: &Path) -> PathBuf {
        match (std::path::absolute(file), std::path::absolute(&self.path)) {
            (Ok(file), Ok(dir)) => match file.strip_prefix(dir) {
                Ok(inside) => inside.to_owned(),
                Err(_) => file,
            },
            _ => file.to_owned(),
        }
    }
}

impl Authority {
    /// Writes `ca.crt`, readable by all, and `ca.key`, readable by its owner alone.
    ///
    /// With [`Overwrite::Replace`] the revocation list of the old authority is removed.
    ///
    /// # Errors
    ///
    /// A file that exists and may not be replaced ([`CertgenError::Exists`]), or that cannot be
    /// written.
    pub fn save(&self, dir: &Path, overwrite: Overwrite) -> Result<(), CertgenError> {
        AuthorityDirectory::lock_new(dir)?.create(self, overwrite)
    }

    /// Reads the authority of a directory, or makes and saves a default one if there is none.
    ///
    /// Of two concurrent calls one makes the authority, and both return it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written.
    pub fn load_or_create(dir: &Path) -> Result<Self, CertgenError> {
        let directory = AuthorityDirectory::lock_new(dir)?;
        let present = [
            paths::certificate_path(dir, CA_STEM),
            paths::key_path(dir, CA_STEM),
        ]
        .iter()
        .any(|path| store::refuse_existing(path).is_err());
        if present {
            return Self::load(dir);
        }
        let authority = Self::new(&AuthoritySpec::default())?;
        directory.create(&authority, Overwrite::Refuse)?;
        Ok(authority)
    }
}

impl IssuedCertificate {
    /// Writes `<stem>.crt`, readable by all, and `<stem>.key`, readable by its owner alone.
    ///
    /// The certificate's file also has the intermediate authorities that peers need. In the
    /// directory of its authority the certificate is added to the index.
    ///
    /// # Errors
    ///
    /// A file that exists and may not be replaced ([`CertgenError::Exists`]), or that cannot be
    /// written.
    pub fn save(&self, dir: &Path, stem: &str, overwrite: Overwrite) -> Result<(), CertgenError> {
        AuthorityDirectory::lock_new(dir)?.save(self, stem, overwrite)
    }
}

#[cfg(test)]
mod tests;
