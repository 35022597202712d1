//! Reads a policy with all files that it names.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use thiserror::Error;

use gateway::loaded_policy::{LoadedPolicy, NextPolicy};
use gateway::snapshot::GatewaySnapshot;
use gateway::tls_files::{policy_file, settings_files};
use host::file;
use policy::{LARGEST_FILE, Policy, PolicyError, TlsFiles};
use tls::files::SettingsFiles;
use tls::{TlsError, TlsFault, TlsSettings};

/// Error of a policy that cannot be loaded.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The policy's file cannot be read.
    #[error("cannot read policy {path}: {source}", path = .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The policy is not valid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy is valid, but some of the files that it names are not.
    #[error("{told}")]
    Files {
        /// Problems, each at the place where the policy names the file.
        told: PolicyError,
        /// The same problems as errors, with those of the operating system as their sources.
        causes: Vec<TlsError>,
    },
}

impl LoadError {
    /// Returns true if another attempt with the same files may succeed, because the cause is
    /// outside of them.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            // A policy that is not valid stays so, whatever else is temporary.
            Self::Policy(_) => false,
            Self::Files { causes, .. } => causes.iter().all(|error| passes(error)),
            Self::Unreadable { .. } => passes(self),
        }
    }

    /// Returns the problems of the policy and of the files that it names, with their positions;
    /// `None` for other errors.
    pub(crate) fn policy_error(&self) -> Option<&PolicyError> {
        match self {
            Self::Policy(told) | Self::Files { told, .. } => Some(told),
            Self::Unreadable { .. } => None,
        }
    }
}

/// Returns true if the error or one of its sources is a temporary error of the operating system.
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

/// Reads and checks the policy's file and all files that it names.
///
/// # Errors
///
/// A [`LoadError`] if a file cannot be read or is not valid.
pub(crate) fn read(path: &Path) -> Result<LoadedPolicy, LoadError> {
    read_noting(path, |_| {})
}

/// Like [`read`], but calls `note` when the policy is parsed and the files that it names are not
/// yet read. `note` is not called if the policy is not valid.
///
/// # Errors
///
/// Those of [`read`].
pub(crate) fn read_noting(
    path: &Path,
    note: impl FnOnce(&Policy),
) -> Result<LoadedPolicy, LoadError> {
    of_text(path, &text(path)?, note)
}

/// Like [`read_noting`] for a text that is already read. Relative paths in it start at the
/// directory of `path`, which is also the file's name in messages.
pub(crate) fn of_text(
    path: &Path,
    text: &str,
    note: impl FnOnce(&Policy),
) -> Result<LoadedPolicy, LoadError> {
    let policy = parse(path, text).inspect(note);
    let load = |files: &SettingsFiles| TlsSettings::load(files, UnixTime::now());
    let (policy, tls) = with_files(policy, base(path), |policy| policy, load)?;
    Ok(LoadedPolicy::new(policy, tls))
}

/// Reads the policy that is to follow the one in force, with its files.
///
/// # Errors
///
/// Those of [`read`].
pub(crate) fn read_next(path: &Path, in_force: &GatewaySnapshot) -> Result<NextPolicy, LoadError> {
    let file = path.display().to_string();
    let next = in_force.policy().parse_next(&file, &text(path)?);
    let tls = in_force.tls();
    let load = |files: &SettingsFiles| tls.load_next(files, UnixTime::now());
    let (next, tls) = with_files(next, base(path), |(policy, _)| policy, load)?;
    Ok(NextPolicy::new(next, tls))
}

/// Like [`read`], but accepts certificates and lists that have ended.
///
/// # Errors
///
/// Those of [`read`], except those about dates.
pub(crate) fn read_whatever_dates(path: &Path) -> Result<LoadedPolicy, LoadError> {
    let policy = parse(path, &text(path)?);
    let (policy, tls) = with_files(policy, base(path), |policy| policy, TlsSettings::read)?;
    Ok(LoadedPolicy::new(policy, tls))
}

/// Reads and checks the policy's file only, without the files that it names.
///
/// # Errors
///
/// A [`LoadError`] if the file cannot be read or is not valid.
pub(crate) fn read_policy_only(path: &Path) -> Result<Policy, LoadError> {
    Ok(parse(path, &text(path)?)?)
}

fn parse(path: &Path, text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(&path.display().to_string(), text)
}

/// Adds the files that a policy names to the result of parsing it. The files are checked even if
/// the policy is not valid, provided that their names are known, so that all problems are reported
/// at once.
fn with_files<P>(
    parsed: Result<P, PolicyError>,
    base: &Path,
    policy: impl FnOnce(&P) -> &Policy,
    load: impl FnOnce(&SettingsFiles) -> Result<TlsSettings, Vec<TlsFault>>,
) -> Result<(P, TlsSettings), LoadError> {
    let told = |faults: &[TlsFault]| -> Vec<_> {
        let told = faults.iter();
        told.map(|fault| (policy_file(fault.file), fault.error.to_string()))
            .collect()
    };
    let load = |files: &TlsFiles| load(&settings_files(files, base));
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

/// Reads the text of a policy's file. A file that is too large or not UTF-8 is
/// [`LoadError::Unreadable`] too.
fn text(path: &Path) -> Result<String, LoadError> {
    file::read_text(path, LARGEST_FILE as u64).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Returns the directory where a policy's relative paths start: the directory of its file.
pub(crate) fn base(policy: &Path) -> &Path {
    policy.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use certgen::{Authority, AuthoritySpec, Overwrite};

    use super::*;
    use tls::files::SettingsFile;
    use tls::trust::TrustError;

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
        let error = read(path).unwrap_err();
        let problems = error.policy_error().unwrap().problems().iter();
        let end = |message: &str| message.rsplit('/').next().unwrap_or_default().to_owned();
        let told = problems.map(|one| (one.line, one.column, end(&one.message)));
        told.collect()
    }

    fn missing(line: u32, column: u32, file: &str) -> (u32, u32, String) {
        let message = format!("{file}: No such file or directory (os error 2)");
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
            (8, 20, "two.crl: contains no revocation list".to_owned()),
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
            file: SettingsFile::Key,
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
            let error =
                with_files(policy(), Path::new(""), |policy| policy, |_| Err(faults)).unwrap_err();
            assert_eq!(error.may_pass(), may_pass, "{error}");
        }
        let wrong = Policy::parse("p.yaml", &POLICY.replace("clients", "client"));
        let error = with_files(
            wrong,
            Path::new(""),
            |policy| policy,
            |_| Err(vec![file(busy)]),
        )
        .unwrap_err();
        assert!(!error.may_pass(), "{error}");
    }
}
