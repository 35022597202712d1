//! Starting the process that follows, and leaving the gateway to it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use super::channel::{MOST_DESCRIPTORS, Receiver, Sender, halves};
use super::launcher::{Launch, Launched};
use super::old_process_reports::Successor;
use super::parent::Parent;
use super::protocol::{DECIDES, MESSAGES, PROTOCOL, Summary, ToElder, ToHeir};
use super::remote_admission::Heir;
use crate::gateway::Gateway;
use crate::inherited_listeners::Purpose;
use crate::program::resolved;
use crate::systemd;

/// The flag that a process gets that is to follow another.
const SUCCEED: &str = "--succeed";
/// How long the new process may take to serve once it was told to. It is asked for clients meanwhile.
const SERVE: Duration = Duration::from_secs(10);
/// How long a process that is not needed may take to end.
const DISMISS: Duration = Duration::from_secs(5);
/// How many groups go into one message.
const MESSAGE: usize = 1000;
/// How many connections do: each has its client's certificates with it.
const CARRIED: usize = 16;

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
    Stranger,
    /// The policy is another by now than the one that the new process has read.
    #[error("the policy was reloaded meanwhile; try again")]
    Changed,
    /// The new process took too long.
    #[error("the new process was not ready within {0:?}")]
    Late(Duration),
    /// One at a time.
    #[error("an upgrade is under way already")]
    Underway,
    /// The gateway is about to end, or another process serves already.
    #[error("this process drains")]
    Draining,
    /// The processes cannot talk, or descriptors are short.
    #[error("the listeners cannot be handed over: {0}")]
    System(#[from] io::Error),
}

/// A new process that is ready to serve.
#[derive(Debug)]
pub struct Candidate {
    process: Launched,
    supervision: Supervision,
    sender: Sender,
    receiver: Receiver,
    /// The file that it runs.
    file: PathBuf,
    summary: Summary,
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
    Here(Parent),
    /// The process that was started first. With it goes the socket to it.
    First(OwnedFd),
}

impl Supervision {
    /// Asks who it is. `parent` is the socket to the process that was started first, if that stays.
    pub async fn of(parent: Option<OwnedFd>) -> io::Result<Self> {
        match parent {
            Some(parent) => Ok(Self::First(parent)),
            None if systemd::follows_the_main_process().await => Ok(Self::Manager),
            None => Ok(Self::Here(Parent::new()?)),
        }
    }

    fn launch(&self, binary: &Path) -> Launch {
        let arguments = std::env::args_os().skip(1);
        let mut arguments: Vec<OsString> =
            arguments.filter(|argument| argument != SUCCEED).collect();
        arguments.push(SUCCEED.into());
        // A service manager watches the process that serves, whichever that is (sd_watchdog_enabled(3)).
        let mut without = vec!["WATCHDOG_PID".to_owned()];
        let own_group = match self {
            Self::Manager => {
                without.push(systemd::STARTED.to_owned());
                false
            }
            Self::Here(_) | Self::First(_) => true,
        };
        Launch {
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
            Self::Here(parent) => parent.theirs(),
            Self::First(socket) => socket.try_clone().ok(),
        }
    }
}

impl Candidate {
    /// Starts a program as this process was started, hands it the gateway's listeners and what it
    /// knows, and waits until it is ready. It is killed if it is not in time, and when the candidate is
    /// dropped.
    pub async fn start(
        gateway: &Gateway,
        binary: &Path,
        supervision: Supervision,
        more: Vec<(Purpose, OwnedFd)>,
        limit: Duration,
    ) -> Result<Self, UpgradeError> {
        let generation = gateway.running().generation();
        let file = resolved(binary);
        let (mut listeners, has_loaded) = gateway.listeners()?;
        listeners.extend(more);
        let known = gateway.known_health();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        // A program may be where the system waits for it, as on a file system over a network.
        let launching = Launched::start(supervision.launch(binary), theirs.into());
        let launched = timeout(limit, launching).await;
        let launched = launched.map_err(|_| UpgradeError::Late(limit))?;
        let mut process = launched.map_err(|source| UpgradeError::Start {
            binary: binary.to_owned(),
            source,
        })?;
        let (mut sender, mut receiver) = halves(ours)?;
        let preparing = async {
            let protocol = PROTOCOL;
            let hello = ToHeir::Hello {
                protocol,
                has_loaded,
                generation,
                messages: MESSAGES,
            };
            sender.send(&hello).await?;
            for some in listeners.chunks(MOST_DESCRIPTORS) {
                let purposes = some.iter().map(|(purpose, _)| purpose.to_string());
                let sockets: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
                let message = ToHeir::Listeners(purposes.collect());
                sender.send_with(&message, &sockets).await?;
            }
            let mut known = known.into_iter().peekable();
            while known.peek().is_some() {
                let some = known.by_ref().take(MESSAGE).collect();
                sender.send(&ToHeir::Health(some)).await?;
            }
            sender.send(&ToHeir::Prepare).await?;
            receiver.receive().await
        };
        let said = timeout(limit, preparing)
            .await
            .map_err(|_| UpgradeError::Late(limit))?;
        match said {
            Ok(Some(ToElder::Ready(summary))) => Ok(Self {
                process,
                supervision,
                sender,
                receiver,
                file,
                summary,
                listeners: listeners.len(),
                generation,
            }),
            Ok(Some(ToElder::Failed(why))) => Err(UpgradeError::Failed(why)),
            Ok(Some(
                ToElder::Serving
                | ToElder::Verdict { .. }
                | ToElder::Reload
                | ToElder::Reopen
                | ToElder::Drain
                | ToElder::End
                | ToElder::Followed
                | ToElder::Cut { .. }
                | ToElder::Lost { .. },
            )) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            Ok(None) | Err(_) => match timeout(DISMISS, process.ended()).await {
                Ok(status) => Err(UpgradeError::Ended(status?)),
                Err(_) => Err(UpgradeError::Stranger),
            },
        }
    }

    /// What it has found.
    pub fn summary(&self) -> &Summary {
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
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it away: it was only to be seen whether it could serve.
    pub async fn dismiss(mut self) {
        drop((self.sender, self.receiver));
        // It is killed if it does not go by itself.
        drop(timeout(DISMISS, self.process.ended()).await);
        self.process.kill().await;
    }

    /// Leaves the gateway to it. If it fails now, the gateway goes on here.
    pub async fn take_over(mut self, gateway: &Arc<Gateway>) -> Result<Successor, UpgradeError> {
        // It may have read what is no longer in force, and let somebody in who was revoked.
        if !gateway.begin_to_hand_over(self.generation) {
            return Err(UpgradeError::Changed);
        }
        gateway.give_way();
        let (heir, told) = Heir::new();
        let carried = gateway.live().hand_over(Arc::clone(&heir));
        let serving = timeout(SERVE, async {
            for some in carried.chunks(CARRIED) {
                self.sender
                    .send(&ToHeir::Connections(some.to_vec()))
                    .await?;
            }
            if self.summary.handover >= DECIDES
                && let Some(socket) = self.supervision.socket()
            {
                let sockets = [socket.as_fd()];
                self.sender.send_with(&ToHeir::Parent, &sockets).await?;
            }
            self.sender.send(&ToHeir::Serve).await?;
            match self.receiver.receive().await? {
                Some(ToElder::Serving) => Ok(()),
                Some(ToElder::Failed(why)) => Err(UpgradeError::Failed(why)),
                Some(
                    ToElder::Ready(_)
                    | ToElder::Verdict { .. }
                    | ToElder::Reload
                    | ToElder::Reopen
                    | ToElder::Drain
                    | ToElder::End
                    | ToElder::Followed
                    | ToElder::Cut { .. }
                    | ToElder::Lost { .. },
                ) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
                None => Err(UpgradeError::Ended(self.process.ended().await?)),
            }
        });
        let served = serving.await.unwrap_or(Err(UpgradeError::Late(SERVE)));
        if let Err(error) = served {
            // It may have begun to accept.
            self.process.kill().await;
            gateway.live().take_back();
            drop(told);
            heir.is_gone();
            gateway.come_back();
            gateway.has_handed_over();
            return Err(error);
        }
        gateway.forget_steering();
        gateway.has_handed_over();
        let pid = self.process.id();
        if let Err(error) = self.process.release().await {
            tracing::error!(%error, pid, "the new process does not belong to whoever supervises it");
        }
        Ok(Successor {
            pid,
            supervision: self.supervision,
            handover: self.summary.handover,
            sender: self.sender,
            receiver: self.receiver,
            heir,
            told,
            carried: carried.len(),
        })
    }
}
