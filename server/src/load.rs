//! Reading a policy with all that it names, and what can go wrong before it is in force.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use thiserror::Error;

use crate::file;
use crate::policy::{Change, Policy, PolicyError};
use crate::running::Running;
use crate::steer::Unsteered;
use crate::tls::{Tls, TlsError};

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
    /// A file that the policy names is no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another process listens there.
    #[error(
        "cannot listen on {0}: it is already in use by another process; `portcullis upgrade` takes a \
         running gateway's place, `--standby` waits for its end"
    )]
    Taken(SocketAddr),
    /// Steering is required, and cannot be had.
    #[error("steering is required: {0}")]
    Unsteered(#[from] Unsteered),
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
            Self::Changing
            | Self::Unreadable { .. }
            | Self::Policy(_)
            | Self::Tls(_)
            | Self::Unsteered(_) => {
                let mut next: Option<&(dyn Error + 'static)> = Some(self);
                while let Some(error) = next {
                    if error.downcast_ref().is_some_and(file::may_pass) {
                        return true;
                    }
                    next = error.source();
                }
                false
            }
        }
    }
}

/// What a policy's file and the files it names say, whole and valid.
#[derive(Debug)]
pub struct Loaded {
    policy: Policy,
    tls: Tls,
}

impl Loaded {
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
        let policy = Policy::parse(&path.display().to_string(), text)?;
        note(&policy);
        let tls = Tls::load(&policy.gateway().tls, base(path), UnixTime::now())?;
        Ok(Self { policy, tls })
    }

    /// Reads what is to take the place of what is in force. Returns the changes of the policy as well.
    pub(crate) fn read_next(
        path: &Path,
        running: &Running,
    ) -> Result<(Self, Vec<Change>), LoadError> {
        let file = path.display().to_string();
        let (policy, changes) = running.policy().parse_next(&file, &text(path)?)?;
        let files = &policy.gateway().tls;
        let tls = running
            .tls()
            .load_next(files, base(path), UnixTime::now())?;
        Ok((Self { policy, tls }, changes))
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The same with some changes of the policy.
    #[must_use]
    pub fn changed(mut self, changes: &[Change]) -> Self {
        self.policy = self.policy.apply(changes);
        self
    }

    pub(crate) fn into_parts(self) -> (Policy, Tls) {
        (self.policy, self.tls)
    }

    /// The TLS side.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }
}

/// Reads a policy's file.
pub fn text(path: &Path) -> Result<String, LoadError> {
    file::read_text(path, LARGEST).map_err(|source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// The folder that a policy's relative paths start from: its own.
pub fn base(policy: &Path) -> &Path {
    policy.parent().unwrap_or(Path::new(""))
}
