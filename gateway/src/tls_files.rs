//! The policy's files for mutual TLS, in the types of the TLS settings that are read from them.

use std::path::Path;

use policy::{ExpiredCrl, TlsFile, TlsFiles};
use tls::files::{ExpiredLists, SettingsFile, SettingsFiles};

/// Returns the files with relative paths resolved against `base`, the policy's directory.
pub fn settings_files(files: &TlsFiles, base: &Path) -> SettingsFiles {
    SettingsFiles {
        certificate: base.join(&files.certificate),
        key: base.join(&files.key),
        client_ca: base.join(&files.client_ca),
        lists: files.crl.iter().map(|list| base.join(list)).collect(),
        expired_lists: match files.expired_crl {
            ExpiredCrl::Refuse => ExpiredLists::Refuse,
            ExpiredCrl::Accept => ExpiredLists::Accept,
        },
    }
}

/// Returns the policy's word for one of the files.
pub fn policy_file(file: SettingsFile) -> TlsFile {
    match file {
        SettingsFile::Certificate => TlsFile::Certificate,
        SettingsFile::Key => TlsFile::Key,
        SettingsFile::ClientCa => TlsFile::ClientCa,
        SettingsFile::List(index) => TlsFile::Crl(index),
    }
}
