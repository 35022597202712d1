//! Reasons why an upgrade fails.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

/// Reason why an upgrade failed: before the new process was started, in its start,
/// or at the handover. The old process still serves, and nothing has changed.
#[derive(Debug, Error)]
pub(crate) enum UpgradeError {
    /// The program was given by a relative path.
    #[error("the path of the program must be absolute: {}", .0.display())]
    NotAbsolute(PathBuf),
    /// Neither the first argument nor the kernel leads to the program that runs now.
    #[error("the program of this process is unknown; name one")]
    NoProgram,
    /// The program cannot be started.
    #[error("cannot start {binary}: {source}", binary = .binary.display())]
    Start {
        /// The program.
        binary: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The new process reports that it cannot serve.
    #[error("the new process cannot serve: {0}")]
    Failed(String),
    /// The new process ended before it was ready.
    #[error("the new process ended before it was ready ({0}); is it portcullis?")]
    Ended(ExitStatus),
    /// The program that was started does not speak the upgrade protocol.
    #[error("the new process does not speak the upgrade protocol; is it portcullis?")]
    NotPortcullis,
    /// The policy was reloaded after the new process was started, so that the new process may have
    /// read an older one.
    #[error("the policy was reloaded meanwhile; try again")]
    PolicyChanged,
    /// The new process was not ready, or did not serve, in time.
    #[error("the new process was not ready within {0:?}")]
    TimedOut(Duration),
    /// Another upgrade is in progress.
    #[error("an upgrade is already in progress")]
    InProgress,
    /// The gateway is about to end, or another process serves already.
    #[error("this process is already draining")]
    Draining,
    /// The communication with the new process failed, or file descriptors are short.
    #[error("cannot hand over the listeners: {0}")]
    System(#[from] io::Error),
}
