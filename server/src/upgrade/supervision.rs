//! The supervision of the process that serves: which process notices its end.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use host::launcher::LaunchRequest;
use host::parent::ParentProcess;

use host::systemd;

/// Command line flag of a process that is to inherit from another.
const INHERIT: &str = "--inherit";

/// Supervision of the process that serves: the parent that notices its end.
#[derive(Debug)]
pub(crate) enum Supervision {
    /// A service manager, which is notified of the main process and can wait for it.
    Manager,
    /// This process, since its own parent knows no other process of the gateway.
    ThisProcess(ParentProcess),
    /// The process that was started first, given by the socket to it.
    FirstProcess(OwnedFd),
}

impl Supervision {
    /// Determines the supervision of the next process. `parent` is the socket to the process that
    /// was started first, if that stays as the parent.
    ///
    /// # Errors
    ///
    /// If the sockets of a parent cannot be created.
    pub(crate) async fn of(parent: Option<OwnedFd>) -> io::Result<Self> {
        match parent {
            Some(parent) => Ok(Self::FirstProcess(parent)),
            None if systemd::follows_the_main_process().await => Ok(Self::Manager),
            None => Ok(Self::ThisProcess(ParentProcess::new()?)),
        }
    }

    pub(super) fn launch(&self, binary: &Path) -> LaunchRequest {
        let arguments = std::env::args_os().skip(1);
        let mut arguments: Vec<OsString> =
            arguments.filter(|argument| argument != INHERIT).collect();
        arguments.push(INHERIT.into());
        // The watchdog is for the process that serves, whichever that is (sd_watchdog_enabled(3)).
        let mut without = vec!["WATCHDOG_PID".to_owned()];
        let own_group = match self {
            Self::Manager => {
                without.push(systemd::SYSTEMD_EXEC_PID.to_owned());
                false
            }
            Self::ThisProcess(_) | Self::FirstProcess(_) => true,
        };
        LaunchRequest {
            binary: binary.into(),
            arguments,
            without,
            own_group,
        }
    }

    /// Returns the socket to the parent, for a process that gets one.
    pub(super) fn socket(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Manager => None,
            Self::ThisProcess(parent) => parent.theirs(),
            Self::FirstProcess(socket) => socket.try_clone().ok(),
        }
    }
}
