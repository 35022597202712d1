//! Start of a process that is not this one's child: a launcher in between starts it and ends, so
//! that the process is reparented to the service manager, or to a subreaper (prctl(2)).
//!
//! Only a parent can wait for a process. If the new process were the old one's child, a service
//! manager would not notice its end for as long as the old one drains. Until the launcher is
//! ordered to leave, it reports the end of the process, and kills it if the socket closes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::channel::{MessageReceiver, MessageSender, at_standard_input, halves};
use crate::program;

/// Subcommand with which a program that starts others so has to run [`launch`].
const COMMAND: &str = "launch";
/// Time limit for a launcher to end after its order to leave, or after the socket was closed: 5 s.
const LEAVE: Duration = Duration::from_secs(5);

/// Order to start a program, for [`LaunchedProcess::start`]. The program has the environment of
/// this process, apart from [`LaunchRequest::without`].
#[derive(Debug, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Path of the program.
    pub binary: OsString,
    /// Arguments, without the name of the program.
    pub arguments: Vec<OsString>,
    /// Environment variables that the new process does not inherit.
    pub without: Vec<String>,
    /// True if the new process gets a process group of its own: signals from a terminal then reach
    /// its parent only.
    pub own_group: bool,
}

/// Messages from a [`LaunchedProcess`] to its launcher.
#[derive(Debug, Serialize, Deserialize)]
enum ToLauncher {
    Launch(LaunchRequest),
    /// Order to end; the process that was started goes on.
    Leave,
}

/// Messages from a launcher to its [`LaunchedProcess`].
#[derive(Debug, Serialize, Deserialize)]
enum FromLauncher {
    Launched { pid: u32 },
    Failed { code: Option<i32>, error: String },
    Ended { status: i32 },
}

/// Process that a launcher has started. It is killed when this is dropped, unless it was released.
#[derive(Debug)]
pub struct LaunchedProcess {
    launcher: Child,
    sender: MessageSender,
    receiver: MessageReceiver,
    pid: u32,
}

impl LaunchedProcess {
    /// Starts a program with `socket` as its standard input. The launcher is the running program
    /// with the subcommand `launch`. If this is cancelled, the program is killed.
    ///
    /// # Errors
    ///
    /// The launcher or the program cannot be started.
    pub async fn start(launch: LaunchRequest, socket: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let own = program::running().ok_or(io::ErrorKind::NotFound)?;
        let launcher = Command::new(own)
            .arg(COMMAND)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        let (mut sender, mut receiver) = halves(ours)?;
        let message = ToLauncher::Launch(launch);
        sender.send_with(&message, &[socket.as_fd()]).await?;
        drop(socket);
        match receiver.receive().await? {
            Some(FromLauncher::Launched { pid }) => Ok(Self {
                launcher,
                sender,
                receiver,
                pid,
            }),
            Some(FromLauncher::Failed { code, error }) => {
                Err(code.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error))
            }
            Some(FromLauncher::Ended { .. }) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns the process ID of the started program.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end of the process and returns its status. Cancel safe.
    ///
    /// # Errors
    ///
    /// The launcher has ended before the process, for example because it was killed.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self.receiver.receive().await? {
            Some(FromLauncher::Ended { status }) => Ok(ExitStatus::from_raw(status)),
            Some(FromLauncher::Launched { .. } | FromLauncher::Failed { .. }) | None => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
    }

    /// Kills the process; returns when it has ended, or after 5 s.
    pub async fn kill(self) {
        let Self {
            mut launcher,
            sender,
            receiver,
            ..
        } = self;
        drop((sender, receiver));
        drop(timeout(LEAVE, launcher.wait()).await);
    }

    /// Lets the launcher end, so that the process goes on without it. When this returns, the
    /// process has been reparented.
    ///
    /// # Errors
    ///
    /// The launcher cannot be reached, or does not end within 5 s.
    pub async fn release(mut self) -> io::Result<()> {
        self.sender.send(&ToLauncher::Leave).await?;
        let left = timeout(LEAVE, self.launcher.wait()).await;
        left.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(())
    }
}

/// Runs this process as a launcher: reads one order from the socket at standard input, starts its
/// program, and reports its process ID and its end.
///
/// Returns when the program has ended or when the launcher is ordered to leave; kills the program
/// if the socket closes before.
///
/// # Errors
///
/// Standard input is not such a socket, or the program's end cannot be waited for or reported.
pub async fn launch() -> io::Result<()> {
    let (mut sender, mut receiver) = at_standard_input()?;
    let Some(ToLauncher::Launch(launch)) = receiver.receive().await? else {
        return Ok(());
    };
    let socket = receiver.descriptor().ok_or(io::ErrorKind::InvalidData)?;
    let mut child = match spawn(&launch, socket) {
        Ok(child) => child,
        Err(error) => {
            let (code, error) = (error.raw_os_error(), error.to_string());
            return sender.send(&FromLauncher::Failed { code, error }).await;
        }
    };
    let pid = child.id().unwrap_or_default();
    if let Err(error) = sender.send(&FromLauncher::Launched { pid }).await {
        // The process that ordered the start is gone, and nobody else knows of the program.
        child.kill().await?;
        return Err(error);
    }
    tokio::select! {
        status = child.wait() => {
            let status = status?.into_raw();
            sender.send(&FromLauncher::Ended { status }).await
        }
        said = receiver.receive() => match said {
            Ok(Some(ToLauncher::Leave)) => Ok(()),
            Ok(Some(ToLauncher::Launch(_)) | None) | Err(_) => child.kill().await,
        },
    }
}

fn spawn(launch: &LaunchRequest, socket: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(&launch.binary);
    command.args(&launch.arguments).stdin(Stdio::from(socket));
    for variable in &launch.without {
        command.env_remove(variable);
    }
    if launch.own_group {
        command.process_group(0);
    }
    command.spawn()
}
