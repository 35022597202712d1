//! What a service manager is told, and what it keeps: systemd's protocols, of which others speak some
//! (`sd_notify(3)`, `sd_listen_fds(3)`, `sd_watchdog_enabled(3)`). Without one nothing of this does anything.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::inherited_listeners::{InheritedListeners, ListenerPurpose};

/// The listeners that the service manager has opened for this process, or has kept from one before.
///
/// A listener of a socket unit is for the address that it is open at, whatever its name.
pub fn inherited() -> io::Result<InheritedListeners> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // This takes the variables away: they are not for the processes that this one starts.
    let mut given = ListenFd::from_env();
    let mut inherited = InheritedListeners::default();
    for index in 0..given.len() {
        let purpose = names.next().unwrap_or_default().parse::<ListenerPurpose>();
        let Some(listener) = given.take_tcp_listener(index)? else {
            continue;
        };
        listener.set_nonblocking(true)?;
        match purpose {
            Ok(purpose) => inherited.add(&purpose, listener.into()),
            Err(()) => inherited.add_listener(listener.local_addr()?, listener),
        }
    }
    Ok(inherited)
}

/// Whether the service manager keeps listeners while there is no process: `FileDescriptorStoreMax=`.
pub fn keeps_listeners() -> bool {
    let most = env::var("FDSTORE").ok().and_then(|most| most.parse().ok());
    most.is_some_and(|most: u32| most > 0) && env::var_os("NOTIFY_SOCKET").is_some()
}

/// The variable in which systemd says which process it has started itself (systemd 248 and later).
pub(crate) const SYSTEMD_EXEC_PID: &str = "SYSTEMD_EXEC_PID";
/// How long a service manager may take to read what it is told.
const READ: Duration = Duration::from_secs(5);

/// Whether there is a service manager that can be told which process is the main one, and can wait for
/// it: it listens, and it has started this process itself, as far as it says so. In a container
/// process 1 is the only one that the manager outside can know.
pub(crate) async fn follows_the_main_process() -> bool {
    let own = std::process::id();
    let started = env::var(SYSTEMD_EXEC_PID)
        .ok()
        .map(|started| started.parse());
    let is_main = own != 1 && started.is_none_or(|started| started == Ok(own));
    if !is_main || env::var_os("NOTIFY_SOCKET").is_none() {
        return false;
    }
    let read = is_read().await;
    if let Err(error) = &read {
        tracing::warn!(%error, "the service manager does not listen; this process stays as the gateway's parent");
    }
    read.is_ok()
}

/// Waits until the service manager has read all that it was told (`sd_notify_barrier(3)`).
///
/// # Errors
///
/// If it does not read it in time.
pub(crate) async fn is_read() -> io::Result<()> {
    let (ours, theirs) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    // Nobody writes there: it is closed.
    let closed = pipe::Receiver::from_owned_fd(ours.into())?;
    timeout(READ, closed.readable()).await?
}

/// How often the service manager wants to hear that this process is well, if it does.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Tells the service manager.
pub(crate) fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!(%error, "the service manager cannot be told how the gateway is");
    }
}

/// What the service manager keeps.
#[derive(Debug)]
pub(crate) struct DescriptorStore {
    /// How many listeners it has of each purpose.
    kept: BTreeMap<String, usize>,
}

impl DescriptorStore {
    /// What it keeps already.
    pub(crate) fn new(inherited: &InheritedListeners) -> Self {
        let mut kept = BTreeMap::new();
        for purpose in inherited.purposes() {
            *kept.entry(purpose.to_string()).or_default() += 1;
        }
        Self { kept }
    }

    /// Has it keep these listeners and no others.
    pub(crate) fn keep(&mut self, listeners: &[(ListenerPurpose, OwnedFd)]) {
        let mut wanted: BTreeMap<String, Vec<BorrowedFd<'_>>> = BTreeMap::new();
        for (purpose, listener) in listeners {
            let name = purpose.to_string();
            wanted.entry(name).or_default().push(listener.as_fd());
        }
        for gone in self.kept.keys().filter(|name| !wanted.contains_key(*name)) {
            tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(gone)]);
        }
        for (name, listeners) in &wanted {
            if self.kept.get(name) == Some(&listeners.len()) {
                continue;
            }
            // What it has already, it does not keep twice.
            let news = [NotifyState::FdStore, NotifyState::FdName(name)];
            if let Err(error) = sd_notify::notify_with_fds(&news, listeners) {
                tracing::warn!(%error, name, "the service manager does not keep a listener");
            }
        }
        let counted = wanted.into_iter().map(|(name, all)| (name, all.len()));
        self.kept = counted.collect();
    }
}
