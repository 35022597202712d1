//! A place to run the command in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use certgen::{CertificateFacts, CrlContents};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;

/// What a test relies on before its promise comes into play.
const STAGE: &str = "the stage is set";

/// A directory of its own for each test, and the command in it.
pub(crate) struct Desk {
    pub(crate) dir: TempDir,
}

impl Desk {
    pub(crate) fn empty() -> Self {
        Self {
            dir: TempDir::new().expect(STAGE),
        }
    }

    pub(crate) fn with_authority() -> Self {
        let desk = Self::empty();
        desk.done(&["ca"]);
        desk
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_certgen"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_remove("CERTGEN_DIR")
            .output()
            .expect(STAGE)
    }

    /// Runs what has to succeed, for what it says.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8(output.stderr).expect(STAGE);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).expect(STAGE)
    }

    /// Runs what has to fail, for what it complains of.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect(STAGE)
    }

    pub(crate) fn code(&self, arguments: &[&str]) -> Option<i32> {
        self.run(arguments).status.code()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("certs").join(name)
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name))
            .expect(STAGE)
            .permissions()
            .mode()
            & 0o7777
    }

    pub(crate) fn facts(&self, name: &str) -> CertificateFacts {
        CertificateFacts::load(&self.path(name)).expect(STAGE)
    }

    pub(crate) fn revocations(&self) -> CrlContents {
        let pem = fs::read(self.path("ca.crt")).expect(STAGE);
        let authority = CertificateDer::from_pem_slice(&pem).expect(STAGE);
        CrlContents::load(&self.path("ca.crl"), &authority).expect(STAGE)
    }

    pub(crate) fn files(&self) -> Vec<String> {
        names(&self.dir.path().join("certs"))
    }
}

/// What lies in a directory, in order.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect(STAGE)
        .map(|entry| entry.expect(STAGE).file_name().into_string().expect(STAGE))
        .collect();
    names.sort();
    names
}
