//! A service manager that speaks systemd's protocols: it receives notifications and keeps
//! listeners.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use command_fds::{CommandFdExt, FdMapping};
use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::{Gateway, World, soon, until};

/// The first of the descriptors that a service manager passes (`sd_listen_fds(3)`).
const FIRST: i32 = 3;

/// Shell script that sets the process's own variables and then becomes the service.
const STARTS: &str = "LISTEN_PID=$$ SYSTEMD_EXEC_PID=${SYSTEMD_EXEC_PID:-$$} exec \"$@\"";

/// Kept listeners with their names.
type Store = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// A service manager with one service.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: PathBuf,
    store: Store,
    news: mpsc::Receiver<String>,
}

impl Manager {
    pub(crate) fn new(world: &World) -> Self {
        // As systemd, it becomes the parent of processes in its services whose own parents have
        // ended.
        set_child_subreaper(Some(getpid())).unwrap();
        let path = world.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let store = Store::default();
        let (sender, news) = mpsc::channel(1000);
        let stored = Arc::clone(&store);
        tokio::task::spawn(async move {
            loop {
                let hear = || hear(&socket, &stored);
                let heard = socket.async_io(Interest::READABLE, hear).await.unwrap();
                if sender.send(heard).await.is_err() {
                    return;
                }
            }
        });
        Self {
            socket: path,
            store,
            news,
        }
    }

    /// Adds a listener to the store, as if the manager had opened it for a socket unit.
    pub(crate) fn open(&self, name: &str, listener: impl Into<OwnedFd>) {
        self.store.lock().push((name.to_owned(), listener.into()));
    }

    /// Returns the names of the kept listeners, sorted.
    pub(crate) fn kept(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .store
            .lock()
            .iter()
            .map(|kept| kept.0.clone())
            .collect();
        names.sort();
        names
    }

    /// Removes all kept listeners.
    pub(crate) fn forget(&self) {
        self.store.lock().clear();
    }

    /// Starts the service with the kept listeners and these further variables, and waits until it
    /// reports that it is ready.
    pub(crate) async fn start(&mut self, world: &World, more: &[(&str, &str)]) -> Gateway {
        let mut command = Command::new("sh");
        command
            .args(["-c", STARTS, "sh"])
            .env("NOTIFY_SOCKET", &self.socket)
            .env("LISTEN_FDS", self.kept().len().to_string())
            .envs(more.iter().copied());
        let (names, mappings): (Vec<_>, Vec<_>) = (FIRST..)
            .zip(&*self.store.lock())
            .map(|(child_fd, (name, listener))| {
                let parent_fd = listener.as_fd().try_clone_to_owned().unwrap();
                (
                    name.clone(),
                    FdMapping {
                        parent_fd,
                        child_fd,
                    },
                )
            })
            .unzip();
        command.env("LISTEN_FDNAMES", names.join(":"));
        command.fd_mappings(mappings).unwrap();
        let gateway = Gateway::start_by(world, command, 2).await;
        self.told("READY=1").await;
        gateway
    }

    /// Waits for the end of a process that has been reported as the main one, and returns the
    /// signal that ended it. Only its parent can do so.
    pub(crate) async fn lost(&self, main: u32) -> Option<i32> {
        let main = Pid::from_raw(main.try_into().unwrap());
        let (_, status) = until(async || waitpid(main, WaitOptions::NOHANG).unwrap()).await;
        status.terminating_signal()
    }

    /// Waits for a notification with this line, and returns all of its lines.
    pub(crate) async fn told(&mut self, line: &str) -> String {
        self.all_until(line).await.pop().unwrap()
    }

    /// Waits for a notification with this line, and returns it with all earlier ones.
    pub(crate) async fn all_until(&mut self, line: &str) -> Vec<String> {
        let mut all = Vec::new();
        soon(async {
            while !all
                .last()
                .is_some_and(|news: &String| news.lines().any(|one| one == line))
            {
                all.push(self.news.recv().await.unwrap());
            }
        })
        .await;
        all
    }
}

fn hear(socket: &UnixDatagram, store: &Store) -> std::io::Result<String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 4096];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        flags,
    )?;
    let text = String::from_utf8(text[..received.bytes].to_vec()).unwrap();
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
    let mut store = store.lock();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(listeners) = message {
            if text.lines().any(|line| line == "BARRIER=1") {
                // The descriptor is closed: all earlier notifications have been read.
                continue;
            }
            assert!(text.lines().any(|line| line == "FDSTORE=1"), "{text}");
            let name = name.expect("every listener has a name");
            store.extend(listeners.map(|listener| (name.to_owned(), listener)));
        }
    }
    if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
        store.retain(|(kept, _)| Some(kept.as_str()) != name);
    }
    Ok(text)
}
