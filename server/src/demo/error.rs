//! Errors that end the demo.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::load::LoadError;
use crate::run::StartError;
use gateway::GatewayStartError;
use gateway::listeners::ListenError;

/// Errors that end the demo.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    /// Certificates could not be issued.
    #[error("cannot issue certificates: {0}")]
    Certificates(#[from] certgen::CertgenError),
    /// The gateway did not start.
    #[error("{0}{hint}", hint = hint(.0))]
    Start(#[from] StartError),
    /// A file of the demo cannot be read or written.
    #[error(
        "cannot use {path}: {source}; name a writable directory with `--dir`",
        path = .path.display()
    )]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// An upstream's port is taken.
    #[error(
        "cannot start an upstream on {address}: {source}; stop the program that listens there, or \
         use `--free-ports`"
    )]
    Upstream {
        /// Address of the upstream.
        address: std::net::SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// No upstream of the group with this name passed its health check in time.
    #[error("no upstream of `{0}` became healthy")]
    Unhealthy(String),
    /// The policy lacks something that the demo needs.
    #[error("the demo needs {0} in the policy")]
    Policy(&'static str),
    /// TLS could not be set up on the client's side.
    #[error("cannot set up a client: {0}")]
    Client(#[from] rustls::Error),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<LoadError> for DemoError {
    fn from(error: LoadError) -> Self {
        Self::Start(error.into())
    }
}

/// Advice that is added to an error: an option that helps, or nothing.
fn hint(error: &StartError) -> &'static str {
    if let StartError::Gateway(GatewayStartError::Listen(ListenError::Bind { .. })) = error {
        "; `--free-ports` takes ports that are free"
    } else {
        ""
    }
}
