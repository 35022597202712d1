//! The old process's part of an upgrade: it starts the new process and hands the gateway over.

use admin::ReadySummary;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::channel::{MOST_DESCRIPTORS, MessageReceiver, MessageSender, halves};
use host::launcher::LaunchedProcess;
use tokio::time::timeout;

use super::error::UpgradeError;
use super::old_process_reports::NewProcess;
use super::protocol::{
    DECIDES, HandoverAnswer, HandoverMessage, MESSAGE_SET, PROTOCOL, SetupAnswer, SetupMessage,
};
use super::supervision::Supervision;
use gateway::Gateway;
use gateway::connection_event::ConnectionState;
use gateway::known_health::KnownHealth;
use gateway::remote_admission::RemoteAdmission;
use host::inherited_listeners::ListenerPurpose;
use host::program::resolved;

/// Time limit for the new process to serve after the order to: 10 s. Clients of the old process
/// wait for its answers meanwhile.
const SERVE: Duration = Duration::from_secs(10);
/// Time limit for a new process to end by itself, before it is killed: 5 s.
const DISMISS: Duration = Duration::from_secs(5);
/// Number of upstreams' health entries in one message.
const GROUPS_A_MESSAGE: usize = 1000;
/// Number of connections in one message: each comes with its client's certificates.
const CONNECTIONS_A_MESSAGE: usize = 16;

/// New process that is ready to serve. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct CandidateProcess {
    process: LaunchedProcess,
    supervision: Supervision,
    sender: MessageSender,
    receiver: MessageReceiver,
    /// File of its program, with all symbolic links resolved.
    file: PathBuf,
    summary: ReadySummary,
    listeners: usize,
    /// Generation of the policy that was in force when the process was started.
    generation: u64,
}

impl CandidateProcess {
    /// Starts a program with this process's arguments, hands it the gateway's listeners, the
    /// listeners in `more` and the health of the upstreams, and waits until it is ready.
    ///
    /// `limit` applies to the start of the program, and again to its preparation; a process that
    /// exceeds it is killed. So is it when the candidate is dropped.
    ///
    /// # Errors
    ///
    /// An [`UpgradeError`] if the listeners cannot be duplicated, the program cannot be started, or
    /// the new process reports that it cannot serve, speaks another protocol, or exceeds the limit.
    pub(crate) async fn start(
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
        // The start of a program may block, as on a network file system.
        let launching = LaunchedProcess::start(supervision.launch(binary), theirs.into());
        let launched = timeout(limit, launching).await;
        let launched = launched.map_err(|_| UpgradeError::TimedOut(limit))?;
        let mut process = launched.map_err(|source| UpgradeError::Start {
            binary: binary.to_owned(),
            source,
        })?;
        let (mut sender, mut receiver) = halves(ours)?;
        let hello = SetupMessage::Hello {
            protocol: PROTOCOL,
            has_loaded,
            generation,
            messages: MESSAGE_SET,
        };
        let preparing = async {
            set_up(&mut sender, &hello, &listeners, known).await?;
            receiver.receive().await
        };
        let said = timeout(limit, preparing)
            .await
            .map_err(|_| UpgradeError::TimedOut(limit))?;
        match said {
            Ok(Some(SetupAnswer::Ready(summary))) => Ok(Self {
                process,
                supervision,
                sender,
                receiver,
                file,
                summary,
                listeners: listeners.len(),
                generation,
            }),
            Ok(Some(SetupAnswer::Failed(why))) => Err(UpgradeError::Failed(why)),
            Ok(None) | Err(_) => match timeout(DISMISS, process.ended()).await {
                Ok(status) => Err(UpgradeError::Ended(status?)),
                Err(_) => Err(UpgradeError::NotPortcullis),
            },
        }
    }

    /// Returns the version of the new process and the contents of the policy that it has read.
    pub(crate) fn summary(&self) -> &ReadySummary {
        &self.summary
    }

    /// Returns the file of its program, with all symbolic links resolved.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the number of listeners that it was given.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners
    }

    /// Returns its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends the process after a trial.
    pub(crate) async fn dismiss(mut self) {
        drop((self.sender, self.receiver));
        // It is killed if it does not end by itself.
        drop(timeout(DISMISS, self.process.ended()).await);
        self.process.kill().await;
    }

    /// Hands the gateway over to the new process and returns when it serves.
    ///
    /// # Errors
    ///
    /// If the policy was reloaded meanwhile, or if the new process does not serve within 10 s: it
    /// is killed then, and this process decides and serves as before.
    pub(crate) async fn hand_over(
        mut self,
        gateway: &Arc<Gateway>,
    ) -> Result<NewProcess, UpgradeError> {
        // It may have read a policy that is no longer in force, and would admit clients who were
        // revoked.
        if !gateway.begin_handover(self.generation) {
            return Err(UpgradeError::PolicyChanged);
        }
        gateway.release_steering();
        let (remote_admission, outgoing) = RemoteAdmission::new();
        let states = gateway
            .shared()
            .connections()
            .admit_remotely(Arc::clone(&remote_admission));
        let serving = timeout(SERVE, self.serve(&states)).await;
        let served = serving.unwrap_or(Err(UpgradeError::TimedOut(SERVE)));
        if let Err(error) = served {
            // It may have begun to accept.
            self.process.kill().await;
            gateway.shared().connections().admit_locally();
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
            tracing::error!(%error, pid, "cannot watch the new process");
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

    /// Sends the connections and the order to serve, and waits until the new process does.
    async fn serve(&mut self, states: &[ConnectionState]) -> Result<(), UpgradeError> {
        for some in states.chunks(CONNECTIONS_A_MESSAGE) {
            self.sender
                .send(&HandoverMessage::Connections(some.to_vec()))
                .await?;
        }
        if self.summary.handover >= DECIDES
            && let Some(socket) = self.supervision.socket()
        {
            let sockets = [socket.as_fd()];
            self.sender
                .send_with(&HandoverMessage::Parent, &sockets)
                .await?;
        }
        self.sender.send(&HandoverMessage::Serve).await?;
        match self.receiver.receive().await? {
            Some(HandoverAnswer::Serving) => Ok(()),
            Some(HandoverAnswer::Failed(why)) => Err(UpgradeError::Failed(why)),
            None => Err(UpgradeError::Ended(self.process.ended().await?)),
        }
    }
}

/// Sends everything that the new process needs to get ready, and the order to.
async fn set_up(
    sender: &mut MessageSender,
    hello: &SetupMessage,
    listeners: &[(ListenerPurpose, OwnedFd)],
    health: Vec<KnownHealth>,
) -> io::Result<()> {
    sender.send(hello).await?;
    for some in listeners.chunks(MOST_DESCRIPTORS) {
        let purposes = some.iter().map(|(purpose, _)| purpose.to_string());
        let sockets: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
        let message = SetupMessage::Listeners(purposes.collect());
        sender.send_with(&message, &sockets).await?;
    }
    let mut health = health.into_iter().peekable();
    while health.peek().is_some() {
        let some = health.by_ref().take(GROUPS_A_MESSAGE).collect();
        sender.send(&SetupMessage::Health(some)).await?;
    }
    sender.send(&SetupMessage::Prepare).await
}
