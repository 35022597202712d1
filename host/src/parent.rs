//! The first process of a gateway as the parent of those that replace it.
//!
//! A supervisor that only knows the process that it started (an init in a container, runit,
//! supervisord, a shell) takes its end for the gateway's. So that process stays, only passes
//! signals on, and ends when the process ends that serves. Every later process holds one end of a
//! socket pair whose other end only the parent has: the process that serves is reported through it,
//! and when it closes the parent has ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{self, SignalKind, signal};

use crate::channel::{MessageReceiver, MessageSender, halves};

/// Messages from a [`ParentLink`] to the [`ParentProcess`].
#[derive(Debug, Serialize, Deserialize)]
enum ToParent {
    /// The process with this ID serves now.
    Serves { pid: u32 },
}

/// The parent's side: this process stays until the gateway's end.
#[derive(Debug)]
pub struct ParentProcess {
    receiver: MessageReceiver,
    /// The later processes' end of the socket, until the first of them has it.
    theirs: Option<OwnedFd>,
    children: unix::Signal,
    serving: Option<Pid>,
    /// True if a signal to end has been passed on.
    has_passed_the_end_on: bool,
    is_told: bool,
    status: Option<ExitStatus>,
}

impl ParentProcess {
    /// Makes this process a subreaper: orphans among its descendants become its children
    /// (prctl(2)). Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or a socket or signal is not available.
    pub fn new() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let (ours, theirs) = UnixStream::pair()?;
        let (_, receiver) = halves(ours)?;
        Ok(Self {
            receiver,
            theirs: Some(theirs.into()),
            children: signal(SignalKind::child())?,
            serving: None,
            has_passed_the_end_on: false,
            is_told: true,
            status: None,
        })
    }

    /// Takes the later processes' end of the socket; `None` if it was taken already.
    pub fn theirs(&mut self) -> Option<OwnedFd> {
        self.theirs.take()
    }

    /// Sets the ID of the process that serves now, which must be a child of this one.
    pub fn expect_child(&mut self, process: u32) {
        self.serving = i32::try_from(process).ok().and_then(Pid::from_raw);
    }

    /// Passes a signal on to the process that serves; a failure is logged.
    pub fn forward(&mut self, signal: Signal) {
        self.has_passed_the_end_on |= matches!(signal, Signal::TERM | Signal::INT);
        self.send(signal);
    }

    fn send(&self, signal: Signal) {
        if let Some(serving) = self.serving
            && let Err(error) = kill_process(serving, signal)
        {
            tracing::warn!(%error, ?signal, "cannot pass a signal on to the process that serves");
        }
    }

    /// Waits for the end of the process that serves, even if another one replaces it meanwhile, and
    /// returns its status. Cancel safe.
    pub async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.look() {
                return status;
            }
            tokio::select! {
                _ = self.children.recv() => {}
                told = self.receiver.receive(), if self.is_told => match told {
                    Ok(Some(ToParent::Serves { pid })) => {
                        self.expect_child(pid);
                        // The process that received it was handing over already.
                        if self.has_passed_the_end_on {
                            self.send(Signal::TERM);
                        }
                    }
                    Ok(None) => self.is_told = false,
                    Err(error) => {
                        tracing::error!(%error, "a child process sent an invalid message");
                        self.is_told = false;
                    }
                },
            }
        }
    }

    fn look(&mut self) -> Option<ExitStatus> {
        let status = self.status.or_else(|| self.wait());
        self.status = status;
        status
    }

    fn wait(&self) -> Option<ExitStatus> {
        match waitpid(self.serving, WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Some(ExitStatus::from_raw(status.as_raw())),
            Ok(None) | Err(Errno::INTR) => None,
            Err(error) => {
                tracing::error!(%error, "cannot wait for the process that serves");
                Some(ExitStatus::from_raw(1 << 8))
            }
        }
    }
}

/// The side of a process that has a [`ParentProcess`]: it reports the next process.
#[derive(Debug)]
pub struct ParentLink {
    sender: MessageSender,
    /// Duplicate of the socket, for the next process.
    socket: OwnedFd,
}

/// Watch of the end of a [`ParentProcess`].
#[derive(Debug)]
pub struct ParentWatch(MessageReceiver);

impl ParentLink {
    /// Creates both from the socket to the parent. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The socket cannot be duplicated, or the runtime cannot watch it.
    pub fn new(socket: OwnedFd) -> io::Result<(Self, ParentWatch)> {
        let (sender, receiver) = halves(socket.try_clone()?.into())?;
        Ok((Self { sender, socket }, ParentWatch(receiver)))
    }

    /// Returns a duplicate of the socket, for a new process.
    ///
    /// # Errors
    ///
    /// This process has no file descriptor left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Reports to the parent that another process serves now; a failure is logged.
    pub async fn report_new_process(&mut self, pid: u32) {
        if let Err(error) = self.sender.send(&ToParent::Serves { pid }).await {
            tracing::warn!(%error, "cannot tell the parent which process serves");
        }
    }
}

impl ParentWatch {
    /// Waits until the parent has ended.
    pub async fn closed(mut self) {
        // A parent sends no messages.
        while let Ok(Some(())) = self.0.receive::<()>().await {}
    }
}
