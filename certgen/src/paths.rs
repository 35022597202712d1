//! Names and paths of the files in an authority's directory.

use std::path::{Path, PathBuf};

/// Stem of the authority's files: `ca.crt`, `ca.key`, `ca.crl`.
pub const CA_STEM: &str = "ca";

/// Default stem of a server's files: `server.crt`, `server.key`.
pub const SERVER_STEM: &str = "server";

/// Path of the certificate with this stem: `<stem>.crt`.
pub fn certificate_path(dir: &Path, stem: &str) -> PathBuf {
    dir.join(format!("{stem}.crt"))
}

/// Path of the private key with this stem: `<stem>.key`.
pub fn key_path(dir: &Path, stem: &str) -> PathBuf {
    dir.join(format!("{stem}.key"))
}

/// Path of the authority's revocation list: `ca.crl`.
pub fn crl_path(dir: &Path) -> PathBuf {
    dir.join(format!("{CA_STEM}.crl"))
}

/// Paths of a certificate and its key.
#[derive(Debug)]
pub(crate) struct PairPaths {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl PairPaths {
    /// Paths of the two files of a stem.
    pub(crate) fn of_stem(dir: &Path, stem: &str) -> Self {
        Self {
            certificate: certificate_path(dir, stem),
            key: key_path(dir, stem),
        }
    }

    /// Paths of a certificate and the key beside it.
    pub(crate) fn beside(certificate: &Path) -> Self {
        Self {
            certificate: certificate.to_owned(),
            key: key_beside(certificate),
        }
    }
}

/// Path of the key beside a certificate: `.crt`, `.pem` or `.cer` becomes `.key`, and to any other
/// name `.key` is added.
pub(crate) fn key_beside(certificate: &Path) -> PathBuf {
    let extension = certificate
        .extension()
        .and_then(|extension| extension.to_str());
    if let Some("crt" | "pem" | "cer") = extension {
        return certificate.with_extension("key");
    }
    let mut path = certificate.as_os_str().to_owned();
    path.push(".key");
    path.into()
}
