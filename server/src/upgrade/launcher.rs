//! Starting a process that is not this one's child: a launcher in between starts it and ends, so that
//! it belongs to whoever collects orphans: the service manager, or a process that asked for them.
//!
//! Only a parent can wait for a process. If the new process were the old one's child, a service manager
//! would not notice its end for as long as the old one drains. Until the launcher is told to leave, it
//! reports how the process ends, and kills it when the socket closes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::channel::{MessageReceiver, MessageSender, at_standard_input, halves};
use crate::program;

/// The hidden command that makes a process a launcher.
const COMMAND: &str = "launch";
/// How long a launcher may take to end once it was told to.
const LEAVE: Duration = Duration::from_secs(5);

/// A program to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LaunchRequest {
    pub(super) binary: OsString,
    pub(super) arguments: Vec<OsString>,
    /// Variables that are not for the new process.
    pub(super) without: Vec<String>,
    /// Whether it gets a process group of its own: signals from a terminal are then for its parent only.
    pub(super) own_group: bool,
}

/// What a launcher is told after the program.
#[derive(Debug, Serialize, Deserialize)]
enum ToLauncher {
    Launch(LaunchRequest),
    /// The process may outlive the launcher.
    Leave,
}

/// What a launcher says.
#[derive(Debug, Serialize, Deserialize)]
enum FromLauncher {
    Launched { pid: u32 },
    Failed { code: Option<i32>, error: String },
    Ended { status: i32 },
}

/// A process that was launched. It is killed when this is dropped, unless it was released.
#[derive(Debug)]
pub(super) struct LaunchedProcess {
    launcher: Child,
    sender: MessageSender,
    receiver: MessageReceiver,
    pid: u32,
}

impl LaunchedProcess {
    /// Starts a program with this socket for its standard input.
    pub(super) async fn start(launch: LaunchRequest, socket: OwnedFd) -> io::Result<Self> {
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

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self.receiver.receive().await? {
            Some(FromLauncher::Ended { status }) => Ok(ExitStatus::from_raw(status)),
            Some(FromLauncher::Launched { .. } | FromLauncher::Failed { .. }) | None => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
    }

    /// Kills it, and returns when it is gone.
    pub(super) async fn kill(self) {
        let Self {
            mut launcher,
            sender,
            receiver,
            ..
        } = self;
        drop((sender, receiver));
        drop(timeout(LEAVE, launcher.wait()).await);
    }

    /// Leaves it to whoever collects orphans. When this returns, it belongs to them.
    pub(super) async fn release(mut self) -> io::Result<()> {
        self.sender.send(&ToLauncher::Leave).await?;
        let left = timeout(LEAVE, self.launcher.wait()).await;
        left.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(())
    }
}

/// Is a launcher: starts what it is told at its standard input, and ends when it may.
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
    sender.send(&FromLauncher::Launched { pid }).await?;
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
