//! What a service manager is told, and what it keeps: systemd's protocols, of which others speak some
//! (`sd_notify(3)`, `sd_listen_fds(3)`, `sd_watchdog_enabled(3)`). Without one nothing of this does anything.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::inherited::{Inherited, Purpose};

/// The listeners that the service manager has opened for this process, or has kept from one before.
///
/// A listener of a socket unit is for the address that it is open at, whatever its name.
pub fn inherited() -> io::Result<Inherited> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // This takes the variables away: they are not for the processes that this one starts.
    let mut given = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..given.len() {
        let purpose = names.next().unwrap_or_default().parse::<Purpose>();
        let Some(listener) = given.take_tcp_listener(index)? else {
            continue;
        };
        listener.set_nonblocking(true)?;
        match purpose {
            Ok(purpose) => inherited.add(&purpose, listener.into()),
            Err(()) => inherited.add_door(listener.local_addr()?, listener),
        }
    }
    Ok(inherited)
}

/// Whether the service manager keeps listeners while there is no process: `FileDescriptorStoreMax=`.
pub fn keeps_listeners() -> bool {
    let most = env::var("FDSTORE").ok().and_then(|most| most.parse().ok());
    most.is_some_and(|most: u32| most > 0) && env::var_os("NOTIFY_SOCKET").is_some()
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
pub(crate) struct Store {
    /// How many listeners it has of each purpose.
    kept: BTreeMap<String, usize>,
}

impl Store {
    /// What it keeps already.
    pub(crate) fn new(inherited: &Inherited) -> Self {
        let mut kept = BTreeMap::new();
        for purpose in inherited.purposes() {
            *kept.entry(purpose.to_string()).or_default() += 1;
        }
        Self { kept }
    }

    /// Has it keep these listeners and no others.
    pub(crate) fn keep(&mut self, listeners: &[(Purpose, OwnedFd)]) {
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
