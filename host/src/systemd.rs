//! Notifications to the service manager, and listeners that it keeps: the protocols of systemd,
//! some of which other service managers support too (`sd_notify(3)`, `sd_listen_fds(3)`,
//! `sd_watchdog_enabled(3)`). Without a service manager these functions have no effect.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use listenfd::ListenFd;
pub use sd_notify::NotifyState;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::inherited_listeners::{InheritedListeners, ListenerPurpose};

/// Takes the listeners that the service manager has opened for this process, or has kept from an
/// earlier one (`sd_listen_fds(3)`).
///
/// A listener of a socket unit is for the address that it is bound to, whatever its name.
/// `LISTEN_PID` and `LISTEN_FDS` are removed from the environment: no other thread may use the
/// environment meanwhile.
///
/// # Errors
///
/// A descriptor that was passed is not a listener of TCP.
pub fn inherited() -> io::Result<InheritedListeners> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // This removes `LISTEN_PID` and `LISTEN_FDS`: they are not for the processes that this one
    // starts.
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

/// Returns true if the service manager keeps listeners while no process runs
/// (`FileDescriptorStoreMax=`, seen from `FDSTORE`).
pub fn keeps_listeners() -> bool {
    let most = env::var("FDSTORE").ok().and_then(|most| most.parse().ok());
    most.is_some_and(|most: u32| most > 0) && env::var_os("NOTIFY_SOCKET").is_some()
}

/// Environment variable with the ID of the process that systemd started itself (systemd 248 and
/// later).
pub const SYSTEMD_EXEC_PID: &str = "SYSTEMD_EXEC_PID";
/// Time limit of [`is_read`] for the service manager: 5 s.
const READ: Duration = Duration::from_secs(5);

/// Returns true if a service manager can be notified of another main process and can wait for it:
/// it reads its notifications, and it started this process itself, as [`SYSTEMD_EXEC_PID`] says if
/// that is set. In a container process 1 is the only one that a service manager outside can know.
pub async fn follows_the_main_process() -> bool {
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
        tracing::warn!(
            %error,
            "the service manager does not answer; this process stays as the gateway's parent"
        );
    }
    read.is_ok()
}

/// Waits until the service manager has read all notifications sent so far (`sd_notify_barrier(3)`).
///
/// # Errors
///
/// It does not read them within 5 s, or cannot be reached.
pub async fn is_read() -> io::Result<()> {
    let (ours, theirs) = io::pipe()?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    // Nothing is ever written to it: it becomes readable when it is closed.
    let closed = pipe::Receiver::from_owned_fd(ours.into())?;
    timeout(READ, closed.readable()).await?
}

/// Returns the interval of the watchdog notifications, half of the service manager's limit; `None`
/// if it has no watchdog for this process.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Sends notifications to the service manager; a failure is only logged.
pub fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// The listeners in the service manager's file descriptor store, if [`keeps_listeners`].
#[derive(Debug)]
pub struct DescriptorStore {
    /// Number of listeners in the store by their purpose.
    kept: BTreeMap<String, usize>,
}

impl DescriptorStore {
    /// Creates the view of the store from the listeners that this process inherited from it.
    pub fn new(inherited: &InheritedListeners) -> Self {
        let mut kept = BTreeMap::new();
        for purpose in inherited.purposes() {
            *kept.entry(purpose.to_string()).or_default() += 1;
        }
        Self { kept }
    }

    /// Makes the store hold exactly these listeners; a failure is logged.
    pub fn keep(&mut self, listeners: &[(ListenerPurpose, OwnedFd)]) {
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
            // The service manager does not store a listener twice.
            let news = [NotifyState::FdStore, NotifyState::FdName(name)];
            if let Err(error) = sd_notify::notify_with_fds(&news, listeners) {
                tracing::warn!(%error, name, "cannot store a listener in the service manager");
            }
        }
        let counted = wanted.into_iter().map(|(name, all)| (name, all.len()));
        self.kept = counted.collect();
    }
}
