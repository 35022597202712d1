//! Starting the process that follows, and leaving the gateway to it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::heir::Heir;
use super::link::{MOST_DESCRIPTORS, Receiver, Sender, halves};
use super::message::{PROTOCOL, Summary, ToElder, ToHeir};
use crate::gateway::Gateway;
use crate::inherited::Purpose;
use crate::program::resolved;

/// The flag that a process gets that is to follow another.
const SUCCEED: &str = "--succeed";
/// How long the new process may take to serve once it was told to. It is asked for clients meanwhile.
const SERVE: Duration = Duration::from_secs(10);
/// How long a process that is not needed may take to end.
const DISMISS: Duration = Duration::from_secs(5);
/// How many groups or connections go into one message.
const MESSAGE: usize = 1000;

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
    /// The end of this process would be the end of all.
    #[error("this is process 1, and its end would end every other: replace the container instead")]
    FirstProcess,
    /// The processes cannot talk, or descriptors are short.
    #[error("the listeners cannot be handed over: {0}")]
    System(#[from] io::Error),
}

/// A new process that is ready to serve.
#[derive(Debug)]
pub struct Candidate {
    process: Process,
    sender: Sender,
    receiver: Receiver,
    /// The file that it runs.
    file: PathBuf,
    summary: Summary,
    listeners: usize,
    /// Of the policy that was in force when it was started.
    generation: u64,
}

/// A process that is killed unless it is released.
#[derive(Debug)]
struct Process(Option<Child>);

impl Process {
    fn id(&self) -> Option<u32> {
        self.0.as_ref().and_then(Child::id)
    }

    async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.0 {
            Some(child) => child.wait().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    async fn kill(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            child.kill().await.ok();
        }
    }

    /// It may outlive this process. Should it end first, the runtime takes note.
    fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            child.start_kill().ok();
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
        more: Vec<(Purpose, OwnedFd)>,
        limit: Duration,
    ) -> Result<Self, UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::FirstProcess);
        }
        let generation = gateway.running().generation();
        let file = resolved(binary);
        let (mut listeners, has_loaded) = gateway.listeners()?;
        listeners.extend(more);
        let known = gateway.known_health();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut process = Process(Some(spawn(binary, theirs.into())?));
        let (mut sender, mut receiver) = halves(ours)?;
        let preparing = async {
            let protocol = PROTOCOL;
            let hello = ToHeir::Hello {
                protocol,
                has_loaded,
                generation,
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
                | ToElder::End,
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
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Sends it away: it was only to be seen whether it could serve.
    pub async fn dismiss(mut self) {
        drop((self.sender, self.receiver));
        // It is killed if it does not go by itself.
        drop(timeout(DISMISS, self.process.ended()).await);
    }

    /// Leaves the gateway to it. If it fails now, the gateway goes on here.
    pub async fn take_over(mut self, gateway: &Arc<Gateway>) -> Result<Successor, UpgradeError> {
        // It may have read what is no longer in force, and let somebody in who was revoked.
        if gateway.running().generation() != self.generation {
            return Err(UpgradeError::Changed);
        }
        gateway.give_way();
        let (heir, told) = Heir::new();
        let carried = gateway.live().hand_over(Arc::clone(&heir));
        let serving = timeout(SERVE, async {
            for some in carried.chunks(MESSAGE) {
                self.sender
                    .send(&ToHeir::Connections(some.to_vec()))
                    .await?;
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
                    | ToElder::End,
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
            return Err(error);
        }
        gateway.forget_steering();
        Ok(Successor {
            process: self.process,
            sender: self.sender,
            receiver: self.receiver,
            heir,
            told,
            carried: carried.len(),
        })
    }
}

/// What the process that follows wants of the one that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To read the policy again.
    Reload,
    /// To open the file of access records again.
    Reopen,
    /// To end within the drain's time.
    Drain,
    /// To end at once.
    End,
}

/// A new process that serves.
#[derive(Debug)]
pub struct Successor {
    process: Process,
    sender: Sender,
    receiver: Receiver,
    heir: Arc<Heir>,
    told: mpsc::UnboundedReceiver<ToHeir>,
    carried: usize,
}

impl Successor {
    /// Its number.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// How many connections this process had when it was followed.
    pub fn carried(&self) -> usize {
        self.carried
    }

    /// Tells it what becomes of this process's connections, until it is gone; its orders go to
    /// `orders`.
    pub async fn report(self, gateway: Arc<Gateway>, orders: mpsc::Sender<Order>) {
        let Self {
            process,
            mut sender,
            mut receiver,
            heir,
            mut told,
            ..
        } = self;
        process.release();
        let hearing = async {
            loop {
                match receiver.receive().await? {
                    Some(ToElder::Verdict {
                        connection,
                        verdict,
                    }) => heir.answer(connection, verdict),
                    // If many wait already, the gateway is about to end or to reload anyway.
                    Some(ToElder::Reload) => drop(orders.try_send(Order::Reload)),
                    Some(ToElder::Reopen) => drop(orders.try_send(Order::Reopen)),
                    Some(ToElder::Drain) => drop(orders.try_send(Order::Drain)),
                    Some(ToElder::End) => drop(orders.try_send(Order::End)),
                    Some(ToElder::Ready(_) | ToElder::Failed(_) | ToElder::Serving) => {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    None => return Ok(()),
                }
            }
        };
        let telling = async {
            sender.send(&ToHeir::Left).await?;
            while let Some(message) = told.recv().await {
                sender.send(&message).await?;
            }
            Ok(())
        };
        let ended: io::Result<()> = tokio::select! {
            ended = hearing => ended,
            ended = telling => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the process that serves cannot be talked to");
        }
        // In this order: whoever finds nobody to ask finds that it decides itself.
        gateway.live().take_back();
        drop(told);
        heir.is_gone();
    }
}

/// Starts a program with this process's arguments.
fn spawn(binary: &Path, socket: OwnedFd) -> Result<Child, UpgradeError> {
    let arguments = std::env::args_os().skip(1);
    let mut arguments: Vec<OsString> = arguments.filter(|argument| argument != SUCCEED).collect();
    arguments.push(SUCCEED.into());
    Command::new(binary)
        .args(arguments)
        // A service manager watches the process that serves, whichever that is (sd_watchdog_enabled(3)).
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(socket))
        .spawn()
        .map_err(|source| UpgradeError::Start {
            binary: binary.to_owned(),
            source,
        })
}
