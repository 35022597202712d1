//! The signals that a gateway handles, and the service manager's watchdog.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::heartbeat::WorkerHeartbeats;
use crate::systemd::{self, NotifyState};

/// Streams of the signals that a gateway handles: SIGHUP, SIGUSR1, SIGUSR2, SIGTERM and SIGINT.
#[derive(Debug)]
pub struct ProcessSignals {
    /// SIGHUP.
    pub reload: Signal,
    /// SIGUSR1.
    pub reopen: Signal,
    /// SIGUSR2.
    pub upgrade: Signal,
    /// SIGTERM.
    pub terminate: Signal,
    /// SIGINT.
    pub interrupt: Signal,
}

impl ProcessSignals {
    /// Begins to handle all five. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. Cancel safe.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the next signal of any kind. Cancel safe.
    pub async fn next(&mut self) -> rustix::process::Signal {
        tokio::select! {
            _ = self.reload.recv() => rustix::process::Signal::HUP,
            _ = self.reopen.recv() => rustix::process::Signal::USR1,
            _ = self.upgrade.recv() => rustix::process::Signal::USR2,
            _ = self.terminate.recv() => rustix::process::Signal::TERM,
            _ = self.interrupt.recv() => rustix::process::Signal::INT,
        }
    }
}

/// Timer of the notifications to the service manager that all workers respond; inactive without a
/// watchdog.
#[derive(Debug)]
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Creates a timer with this interval; `None` is without a watchdog. Must be called within a
    /// tokio runtime.
    pub fn new(every: Option<Duration>) -> Self {
        Self(every.map(|every| {
            let mut interval = interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Waits until the next notification is due; never returns without a watchdog. Cancel safe.
    pub async fn tick(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => pending().await,
        }
    }

    /// Notifies the service manager, unless a worker has been silent since the last time.
    pub fn tell(heartbeats: &WorkerHeartbeats) {
        let silent = heartbeats.check();
        if silent == 0 {
            systemd::tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                silent,
                "workers are not responding; skipping the watchdog notification"
            );
        }
    }
}
