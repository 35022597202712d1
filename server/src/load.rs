//! Reading a policy with all that it names, and what can go wrong before it is in force.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use thiserror::Error;

use crate::file;
use crate::policy::{Policy, PolicyChange, PolicyError, TlsFiles};
use crate::snapshot::GatewaySnapshot;
use crate::steering::SteeringUnavailable;
use crate::tls::{TlsError, TlsFault, TlsSettings};

/// The largest policy that is read: some millions of clients.
pub(crate) const LARGEST: u64 = 256 << 20;

/// Why a policy could not be put in force. What was in force stays so.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The policy's file cannot be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The policy is not valid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy is valid, and files that it names are no good.
    #[error("{told}")]
    Files {
        /// What is wrong, where the policy names the files.
        told: PolicyError,
        /// The same, with what the system said.
        causes: Vec<TlsError>,
    },
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {source}{}", not_there(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another process listens there.
    #[error(
        "cannot listen on {0}: it is already in use by another process; `portcullis upgrade` takes a \
         running gateway's place, `--standby` or `listen_retry` waits for its end"
    )]
    Taken(SocketAddr),
    /// Steering is required, and cannot be had.
    #[error("steering is required: {0}")]
    SteeringUnavailable(#[from] SteeringUnavailable),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A file was written to while it was read, and may be torn.
    #[error("a file was written to while it was read")]
    Changing,
    /// Another process is just taking over, and has read the policy already.
    #[error("another process is just taking over")]
    HandingOver,
}

impl LoadError {
    /// Whether the same files may be loaded the next time: something else was in the way.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::HandingOver | Self::Thread(_) | Self::Listen { .. } | Self::Taken(_) => true,
            // A policy that is wrong stays so, whatever else may pass.
            Self::Policy(_) => false,
            Self::Files { causes, .. } => causes.iter().all(|error| passes(error)),
            Self::Changing | Self::Unreadable { .. } | Self::SteeringUnavailable(_) => passes(self),
        }
    }

    /// Whether an address is in use, or is not there: it may be free or there later.
    pub(crate) fn is_of_an_address(&self) -> bool {
        match self {
            Self::Taken(_) => true,
            Self::Listen { source, .. } => {
                matches!(
                    source.kind(),
                    ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
                )
            }
            Self::Unreadable { .. }
            | Self::Policy(_)
            | Self::Files { .. }
            | Self::SteeringUnavailable(_)
            | Self::Thread(_)
            | Self::Changing
            | Self::HandingOver => false,
        }
    }

    /// What is wrong with the policy and the files that it names, with its places.
    pub fn policy_error(&self) -> Option<&PolicyError> {
        match self {
            Self::Policy(told) | Self::Files { told, .. } => Some(told),
            Self::Unreadable { .. }
            | Self::Listen { .. }
            | Self::Taken(_)
            | Self::SteeringUnavailable(_)
            | Self::Thread(_)
            | Self::Changing
            | Self::HandingOver => None,
        }
    }
}

/// What there is to do about an address that is not there.
fn not_there(source: &io::Error) -> &'static str {
    if source.kind() == ErrorKind::AddrNotAvailable {
        "; no interface has the address: `freebind: true` listens at it all the same, `listen_retry` waits for it"
    } else {
        ""
    }
}

/// Whether an error comes from one of the system's that may be gone the next time.
fn passes(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref().is_some_and(file::may_pass) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What a policy's file and the files it names say, whole and valid.
#[derive(Debug)]
pub struct LoadedPolicy {
    policy: Policy,
    tls: TlsSettings,
}

impl LoadedPolicy {
    /// Reads and checks the policy's file and all that it names.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        Self::read_noting(path, |_| {})
    }

    /// The same, and calls `note` between the two: when it is known which files are to be read.
    pub fn read_noting(path: &Path, note: impl FnOnce(&Policy)) -> Result<Self, LoadError> {
        Self::of_text(path, &text(path)?, note)
    }

    /// The same of a text that was read already; `path` is its name, from which relative paths start.
    pub(crate) fn of_text(
        path: &Path,
        text: &str,
        note: impl FnOnce(&Policy),
    ) -> Result<Self, LoadError> {
        let policy = Policy::parse(&path.display().to_string(), text).inspect(note);
        let load = |files: &TlsFiles| TlsSettings::load(files, base(path), UnixTime::now());
        let (policy, tls) = with_files(policy, |policy| policy, load)?;
        Ok(Self { policy, tls })
    }

    /// Reads what is to take the place of what is in force. Returns the changes of the policy as well.
    pub(crate) fn read_next(
        path: &Path,
        running: &GatewaySnapshot,
    ) -> Result<(Self, Vec<PolicyChange>), LoadError> {
        let file = path.display().to_string();
        let next = running.policy().parse_next(&file, &text(path)?);
        let tls = running.tls();
        let load = |files: &TlsFiles| tls.load_next(files, base(path), UnixTime::now());
        let ((policy, changes), tls) = with_files(next, |(policy, _)| policy, load)?;
        Ok((Self { policy, tls }, changes))
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The same with some changes of the policy.
    #[must_use]
    pub fn changed(mut self, changes: &[PolicyChange]) -> Self {
        self.policy = self.policy.apply(changes);
        self
    }

    pub(crate) fn into_parts(self) -> (Policy, TlsSettings) {
        (self.policy, self.tls)
    }

    /// The TLS side.
    pub fn tls(&self) -> &TlsSettings {
        &self.tls
    }
}

/// What was parsed, with the files that it names. The files are looked at even if the policy is wrong, as
/// soon as it is known which they are, so that everything is told at once.
fn with_files<P>(
    parsed: Result<P, PolicyError>,
    policy: impl FnOnce(&P) -> &Policy,
    load: impl FnOnce(&TlsFiles) -> Result<TlsSettings, Vec<TlsFault>>,
) -> Result<(P, TlsSettings), LoadError> {
    let told = |faults: &[TlsFault]| -> Vec<_> {
        let told = faults.iter();
        told.map(|fault| (fault.file, fault.error.to_string()))
            .collect()
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let faults = error.files().and_then(|files| load(files).err());
            return Err(error.with(told(&faults.unwrap_or_default())).into());
        }
    };
    let policy = policy(&parsed);
    let files = &policy.gateway().tls;
    match load(files) {
        Ok(tls) => Ok((parsed, tls)),
        Err(faults) => Err(LoadError::Files {
            told: PolicyError::of_files(policy.file(), files).with(told(&faults)),
            causes: faults.into_iter().map(|fault| fault.error).collect(),
        }),
    }
}

/// Reads a policy's file.
pub fn text(path: &Path) -> Result<String, LoadError> {
    file::read_text(path, LARGEST).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// The directory that a policy's relative paths start from: its own.
pub fn base(policy: &Path) -> &Path {
    policy.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use certgen::{Authority, AuthoritySpec, Overwrite};

    use super::*;
    use crate::policy::TlsFile;
    use crate::trust::TrustError;

    const POLICY: &str = "version: 1
gateway:
  listen: ['[::]:0']
  tls:
    certificate: own.crt
    key: own.key
    client_ca: ca.crt
    crl: [one.crl, two.crl]
groups: {web: {upstreams: ['10.0.0.1:1']}}
clients: {}
";

    /// The policy in a directory with an authority.
    fn directory() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let path = dir.path().join("p.yaml");
        fs::write(&path, POLICY).unwrap();
        (dir, path)
    }

    /// What is told of a policy: line, column and how the message ends.
    fn told(path: &Path) -> Vec<(u32, u32, String)> {
        let error = LoadedPolicy::read(path).unwrap_err();
        let problems = error.policy_error().unwrap().problems().iter();
        let end = |message: &str| message.rsplit('/').next().unwrap_or_default().to_owned();
        let told = problems.map(|one| (one.line, one.column, end(&one.message)));
        told.collect()
    }

    fn missing(line: u32, column: u32, file: &str) -> (u32, u32, String) {
        let message = format!("{file}: cannot be read: No such file or directory (os error 2)");
        (line, column, message)
    }

    #[test]
    fn each_file_that_is_no_good_is_told_where_the_policy_names_it() {
        let (dir, path) = directory();
        fs::write(dir.path().join("two.crl"), "").unwrap();
        let mut expected = vec![
            missing(5, 18, "own.crt"),
            missing(6, 10, "own.key"),
            missing(8, 11, "one.crl"),
            (8, 20, "two.crl: holds no revocation list".to_owned()),
        ];
        assert_eq!(told(&path), expected);
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        fs::remove_file(dir.path().join("two.crl")).unwrap();
        expected.insert(2, missing(7, 16, "ca.crt"));
        expected[4] = missing(8, 20, "two.crl");
        assert_eq!(told(&path), expected, "without the authority too");
    }

    #[test]
    fn what_is_wrong_with_the_policy_and_with_its_files_is_told_at_once() {
        let (_dir, path) = directory();
        let wrong = POLICY.replace("clients: {}", "clients: {one: {groups: [wed]}}");
        let breaks = format!("{POLICY}tests: [{{client: x, sni: web, expect: allow}}]\n");
        for (text, line, column) in [(wrong, 10, 26), (breaks, 11, 9)] {
            fs::write(&path, text).unwrap();
            let told = told(&path);
            assert_eq!(
                told[..2],
                [missing(5, 18, "own.crt"), missing(6, 10, "own.key")]
            );
            let (last_line, last_column, _) = told[4];
            assert_eq!((last_line, last_column, told.len()), (line, column, 5));
        }
    }

    #[test]
    fn a_reload_is_tried_again_only_if_all_that_is_wrong_may_pass() {
        let file = |errno: rustix::io::Errno| TlsFault {
            file: TlsFile::Key,
            error: TrustError::Unreadable {
                path: PathBuf::new(),
                source: errno.into(),
            }
            .into(),
        };
        let policy = || Policy::parse("p.yaml", POLICY);
        let (busy, absent) = (rustix::io::Errno::MFILE, rustix::io::Errno::NOENT);
        for (faults, may_pass) in [
            (vec![file(busy)], true),
            (vec![file(busy), file(absent)], false),
        ] {
            let error = with_files(policy(), |policy| policy, |_| Err(faults)).unwrap_err();
            assert_eq!(error.may_pass(), may_pass, "{error}");
        }
        let wrong = Policy::parse("p.yaml", &POLICY.replace("clients", "client"));
        let error = with_files(wrong, |policy| policy, |_| Err(vec![file(busy)])).unwrap_err();
        assert!(!error.may_pass(), "{error}");
    }
}
