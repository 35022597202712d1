//! Starting the new process, and handing the gateway over to it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use super::channel::{MOST_DESCRIPTORS, MessageReceiver, MessageSender, halves};
use super::launcher::{LaunchRequest, LaunchedProcess};
use super::old_process_reports::NewProcess;
use super::parent::ParentProcess;
use super::protocol::{DECIDES, MESSAGE_SET, PROTOCOL, ReadySummary, ToNewProcess, ToOldProcess};
use super::remote_admission::RemoteAdmission;
use crate::gateway::Gateway;
use crate::inherited_listeners::ListenerPurpose;
use crate::program::resolved;
use crate::systemd;

/// The flag of a process that is to inherit from another.
const INHERIT: &str = "--inherit";
/// How long the new process may take to serve once it was told to. It is asked for clients meanwhile.
const SERVE: Duration = Duration::from_secs(10);
/// How long a process that is not needed may take to end.
const DISMISS: Duration = Duration::from_secs(5);
/// How many groups go into one message.
const GROUPS_A_MESSAGE: usize = 1000;
/// How many connections do: each has its client's certificates with it.
const CONNECTIONS_A_MESSAGE: usize = 16;

/// Why there was no upgrade. The process that served still does, and nothing has changed.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// A path is only clear if it begins at the root.
    #[error("{}: the program must be named by an absolute path", .0.display())]
    NotAbsolute(PathBuf),
    /// Neither the first argument nor the kernel leads to the program that runs.
    #[error("it is not known which program this process was started from: name one")]
    NoProgram,
    /// The program cannot be started.
    #[error("{binary} cannot be started: {source}", binary = .binary.display())]
    Start {
        /// The program.
        binary: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new process says that it cannot serve.
    #[error("the new process cannot serve: {0}")]
    Failed(String),
    /// The new process has ended.
    #[error("the new process did not get ready: it ended with {0}; is it portcullis?")]
    Ended(ExitStatus),
    /// What was started is something else.
    #[error("the new process does not answer as portcullis does")]
    NotPortcullis,
    /// The policy is another by now than the one that the new process has read.
    #[error("the policy was reloaded meanwhile; try again")]
    PolicyChanged,
    /// The new process took too long.
    #[error("the new process was not ready within {0:?}")]
    TimedOut(Duration),
    /// One at a time.
    #[error("an upgrade is already in progress")]
    InProgress,
    /// The gateway is about to end, or another process serves already.
    #[error("this process is already draining")]
    Draining,
    /// The processes cannot talk, or descriptors are short.
    #[error("the listeners cannot be handed over: {0}")]
    System(#[from] io::Error),
}

/// A new process that is ready to serve.
#[derive(Debug)]
pub struct CandidateProcess {
    process: LaunchedProcess,
    supervision: Supervision,
    sender: MessageSender,
    receiver: MessageReceiver,
    /// The file that it runs.
    file: PathBuf,
    summary: ReadySummary,
    listeners: usize,
    /// Of the policy that was in force when it was started.
    generation: u64,
}

/// Who notices the end of the process that serves.
#[derive(Debug)]
pub enum Supervision {
    /// A service manager, which is told which process serves and can wait for it.
    Manager,
    /// This process: whoever started it knows no other.
    ThisProcess(ParentProcess),
    /// The process that was started first. With it goes the socket to it.
    FirstProcess(OwnedFd),
}

impl Supervision {
    /// Asks who it is. `parent` is the socket to the process that was started first, if that stays.
    pub async fn of(parent: Option<OwnedFd>) -> io::Result<Self> {
        match parent {
            Some(parent) => Ok(Self::FirstProcess(parent)),
            None if systemd::follows_the_main_process().await => Ok(Self::Manager),
            None => Ok(Self::ThisProcess(ParentProcess::new()?)),
        }
    }

    fn launch(&self, binary: &Path) -> LaunchRequest {
        let arguments = std::env::args_os().skip(1);
        let mut arguments: Vec<OsString> =
            arguments.filter(|argument| argument != INHERIT).collect();
        arguments.push(INHERIT.into());
        // A service manager watches the process that serves, whichever that is (sd_watchdog_enabled(3)).
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

    /// The socket for a process that gets a parent.
    fn socket(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Manager => None,
            Self::ThisProcess(parent) => parent.theirs(),
            Self::FirstProcess(socket) => socket.try_clone().ok(),
        }
    }
}

impl CandidateProcess {
    /// Starts a program as this process was started, hands it the gateway's listeners and what it
    /// knows, and waits until it is ready. It is killed if it is not in time, and when the candidate is
    /// dropped.
    pub async fn start(
        gateway: &Gateway,
        binary: &Path,
        supervision: Supervision,
        more: Vec<(ListenerPurpose, OwnedFd)>,
        limit: Duration,
    ) -> Result<Self, UpgradeError> {
        let generation = gateway.snapshot().generation();
        let file = resolved(binary);
        let (mut listeners, has_loaded) = gateway.listeners()?;
        listeners.extend(more);
        let known = gateway.upstream_health();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        // A program may be where the system waits for it, as on a file system over a network.
        let launching = LaunchedProcess::start(supervision.launch(binary), theirs.into());
        let launched = timeout(limit, launching).await;
        let launched = launched.map_err(|_| UpgradeError::TimedOut(limit))?;
        let mut process = launched.map_err(|source| UpgradeError::Start {
            binary: binary.to_owned(),
            source,
        })?;
        let (mut sender, mut receiver) = halves(ours)?;
        let preparing = async {
            let protocol = PROTOCOL;
            let hello = ToNewProcess::Hello {
                protocol,
                has_loaded,
                generation,
                messages: MESSAGE_SET,
            };
            sender.send(&hello).await?;
            for some in listeners.chunks(MOST_DESCRIPTORS) {
                let purposes = some.iter().map(|(purpose, _)| purpose.to_string());
                let sockets: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
                let message = ToNewProcess::Listeners(purposes.collect());
                sender.send_with(&message, &sockets).await?;
            }
            let mut known = known.into_iter().peekable();
            while known.peek().is_some() {
                let some = known.by_ref().take(GROUPS_A_MESSAGE).collect();
                sender.send(&ToNewProcess::Health(some)).await?;
            }
            sender.send(&ToNewProcess::Prepare).await?;
            receiver.receive().await
        };
        let said = timeout(limit, preparing)
            .await
            .map_err(|_| UpgradeError::TimedOut(limit))?;
        match said {
            Ok(Some(ToOldProcess::Ready(summary))) => Ok(Self {
                process,
                supervision,
                sender,
                receiver,
                file,
                summary,
                listeners: listeners.len(),
                generation,
            }),
            Ok(Some(ToOldProcess::Failed(why))) => Err(UpgradeError::Failed(why)),
            Ok(Some(
                ToOldProcess::Serving
                | ToOldProcess::Verdict { .. }
                | ToOldProcess::Reload
                | ToOldProcess::Reopen
                | ToOldProcess::Drain
                | ToOldProcess::End
                | ToOldProcess::Followed
                | ToOldProcess::Cut { .. }
                | ToOldProcess::Lost { .. },
            )) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            Ok(None) | Err(_) => match timeout(DISMISS, process.ended()).await {
                Ok(status) => Err(UpgradeError::Ended(status?)),
                Err(_) => Err(UpgradeError::NotPortcullis),
            },
        }
    }

    /// What it has found.
    pub fn summary(&self) -> &ReadySummary {
        &self.summary
    }

    /// The file that it runs: its program's path, with all links followed.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How many listeners it has got.
    pub fn listeners(&self) -> usize {
        self.listeners
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it away: it was only to be seen whether it could serve.
    pub async fn dismiss(mut self) {
        drop((self.sender, self.receiver));
        // It is killed if it does not go by itself.
        drop(timeout(DISMISS, self.process.ended()).await);
        self.process.kill().await;
    }

    /// Leaves the gateway to it. If it fails now, the gateway goes on here.
    pub async fn hand_over(mut self, gateway: &Arc<Gateway>) -> Result<NewProcess, UpgradeError> {
        // It may have read what is no longer in force, and let somebody in who was revoked.
        if !gateway.begin_handover(self.generation) {
            return Err(UpgradeError::PolicyChanged);
        }
        gateway.release_steering();
        let (remote_admission, outgoing) = RemoteAdmission::new();
        let states = gateway
            .connections()
            .admit_remotely(Arc::clone(&remote_admission));
        let serving = timeout(SERVE, async {
            for some in states.chunks(CONNECTIONS_A_MESSAGE) {
                self.sender
                    .send(&ToNewProcess::Connections(some.to_vec()))
                    .await?;
            }
            if self.summary.handover >= DECIDES
                && let Some(socket) = self.supervision.socket()
            {
                let sockets = [socket.as_fd()];
                self.sender
                    .send_with(&ToNewProcess::Parent, &sockets)
                    .await?;
            }
            self.sender.send(&ToNewProcess::Serve).await?;
            match self.receiver.receive().await? {
                Some(ToOldProcess::Serving) => Ok(()),
                Some(ToOldProcess::Failed(why)) => Err(UpgradeError::Failed(why)),
                Some(
                    ToOldProcess::Ready(_)
                    | ToOldProcess::Verdict { .. }
                    | ToOldProcess::Reload
                    | ToOldProcess::Reopen
                    | ToOldProcess::Drain
                    | ToOldProcess::End
                    | ToOldProcess::Followed
                    | ToOldProcess::Cut { .. }
                    | ToOldProcess::Lost { .. },
                ) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
                None => Err(UpgradeError::Ended(self.process.ended().await?)),
            }
        });
        let served = serving.await.unwrap_or(Err(UpgradeError::TimedOut(SERVE)));
        if let Err(error) = served {
            // It may have begun to accept.
            self.process.kill().await;
            gateway.connections().admit_locally();
            drop(outgoing);
            remote_admission.close();
            gateway.restore_steering();
            gateway.end_handover();
            return Err(error);
        }
        gateway.forget_steering();
        gateway.end_handover();
        let pid = self.process.pid();
        if let Err(error) = self.process.release().await {
            tracing::error!(%error, pid, "the new process is not supervised");
        }
        Ok(NewProcess {
            pid,
            supervision: self.supervision,
            handover: self.summary.handover,
            sender: self.sender,
            receiver: self.receiver,
            remote_admission,
            outgoing,
            connections: states.len(),
        })
    }
}
