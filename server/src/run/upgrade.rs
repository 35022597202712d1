//! How one process of a gateway gives way to the next.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use lb::Drained;
use rustix::process::{Signal, getpid, kill_process};
use rustls_pki_types::UnixTime;
use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::attempt::{Answer, Attempt, Wanted};
use super::signals::Signals;
use super::{CONFESS, Ended, Run};
use crate::admin::{Admin, USUAL_TIMEOUT, Upgrade, Upgraded};
use crate::inherited::Purpose;
use crate::program::resolved;
use crate::succession::{Candidate, Child, Order, Parent, Successor, Supervision, UpgradeError};
use crate::systemd;

/// How many orders of the process that serves may wait.
const ORDERS: usize = 16;

impl Run {
    /// Starts a process that is to follow this one, unless one is being started.
    pub(super) fn try_upgrade(
        &self,
        attempt: &mut Attempt,
        upgrade: Upgrade,
        answer: Option<Answer>,
    ) {
        let dry_run = upgrade.dry_run;
        let mut wanted = Wanted {
            dry_run,
            binary: PathBuf::new(),
            answer,
        };
        let Some(binary) = upgrade.binary.or_else(|| self.program.clone()) else {
            return wanted.failed(UpgradeError::NoProgram);
        };
        wanted.binary.clone_from(&binary);
        if !binary.is_absolute() {
            return wanted.failed(UpgradeError::NotAbsolute(binary));
        }
        let limit = upgrade.timeout_seconds;
        let limit = limit.map_or(USUAL_TIMEOUT, Duration::from_secs);
        let admin = self.admin.as_ref().map(Admin::socket).transpose();
        let more = admin.map(|socket| socket.map(|socket| (Purpose::Admin, socket)));
        let parent = self.parent.as_ref().map(Child::share).transpose();
        let gateway = Arc::clone(&self.gateway);
        let file = resolved(&binary);
        tracing::info!(binary = %binary.display(), file = %file.display(), dry_run, "upgrading");
        attempt.begin(&self.tasks, wanted, async move {
            let more = more?.into_iter().collect();
            let supervision = Supervision::of(parent?).await?;
            Candidate::start(&gateway, &binary, supervision, more, limit).await
        });
    }

    /// Leaves the gateway to a process that is ready, if that was wanted.
    pub(super) async fn decide(
        &self,
        wanted: Wanted,
        candidate: Result<Candidate, UpgradeError>,
    ) -> Option<Successor> {
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err(error) => {
                wanted.failed(error);
                return None;
            }
        };
        let mut upgraded = Upgraded {
            dry_run: wanted.dry_run,
            binary: wanted.binary.clone(),
            file: candidate.file().to_owned(),
            summary: candidate.summary().clone(),
            listeners: candidate.listeners(),
            pid: candidate.id(),
            old_pid: std::process::id(),
            connections: self.gateway.live().len(),
        };
        if wanted.dry_run {
            self.tasks.spawn(candidate.dismiss());
            wanted.done(upgraded);
            return None;
        }
        match candidate.take_over(&self.gateway).await {
            Ok(successor) => {
                upgraded.connections = successor.carried();
                wanted.done(upgraded);
                Some(successor)
            }
            Err(error) => {
                wanted.failed(error);
                None
            }
        }
    }

    /// Ends connections of older processes whose permit this one's policy would not give: they may have
    /// failed to read it.
    pub(super) fn cut_what_it_would_not_let_in(&self) {
        let running = self.gateway.running();
        let now = Some(UnixTime::now());
        let lapsed = self.gateway.live().lapsed_elsewhere(&running, now);
        if !lapsed.is_empty() {
            let gateway = running.policy().gateway();
            tracing::info!(
                lapsed = lapsed.len(),
                "connections of the older process have lapsed"
            );
            self.tasks
                .spawn(lapsed.end(gateway.on_revoke, gateway.timeouts.drain));
        }
    }

    /// Has the process that was started first for its parent, if that stays. Its end counts as SIGTERM:
    /// whoever supervises the gateway knows no other process that could be ended.
    pub(super) fn have_parent(&mut self, socket: Option<OwnedFd>) -> io::Result<()> {
        let Some(socket) = socket else {
            return Ok(());
        };
        let (child, tie) = Child::new(socket)?;
        self.parent = Some(child);
        self.tasks.spawn(async move {
            tie.torn().await;
            tracing::error!("the gateway's first process, which is its parent, is gone");
            if let Err(error) = kill_process(getpid(), Signal::TERM) {
                tracing::error!(%error, "this process cannot be ended");
            }
        });
        Ok(())
    }

    /// Keeps what connections there are until they end, or until the gateway as a whole is to. Stays
    /// after that too if nobody else notices the end of the process that serves.
    pub(super) async fn be_followed(mut self, successor: Successor, signals: Signals) -> Ended {
        let next = successor.id();
        let (supervision, reports) = successor.split();
        let parent = match supervision {
            Supervision::Manager => {
                // The new process tells the watchdog from now on.
                self.tell(&[NotifyState::MainPid(next), NotifyState::Watchdog]);
                None
            }
            Supervision::Here(mut parent) => {
                parent.is_followed_by(next);
                Some(parent)
            }
            Supervision::First(_) => {
                if let Some(child) = &mut self.parent {
                    child.is_followed_by(next).await;
                }
                None
            }
        };
        self.is_followed = true;
        self.is_decided_elsewhere = reports.go_to_who_decides();
        self.store = None;
        self.orders.send_modify(|orders| orders.followed = true);
        let (ordering, orders) = mpsc::channel(ORDERS);
        let gateway = Arc::clone(&self.gateway);
        self.tasks
            .spawn(reports.tell(Arc::clone(&gateway), ordering));
        self.asked.close();
        if let Some(admin) = self.admin.take() {
            admin.hand_over().await;
        }
        gateway.close().await;
        tracing::info!(
            open = gateway.drain().open(),
            "another process serves; draining"
        );
        let mut rest = Rest {
            next,
            parent,
            orders,
            signals,
            is_last: true,
            is_gone: false,
        };
        let drained = match rest.keep(&mut self).await {
            Way::Drained(drained) => self.wind_up(drained).await,
            Way::Within(limit) => self.stop(limit, rest.impatient()).await,
        };
        gateway.live().is_drained();
        drop(gateway);
        match rest.stay().await {
            Some(status) => Ended::Followed(drained, status),
            None => Ended::Drained(drained),
        }
    }
}

/// How the connections that are left come to their end.
enum Way {
    /// By themselves.
    Drained(Drained),
    /// Within this time.
    Within(Duration),
}

/// What a process hears that another one follows.
#[derive(Debug)]
struct Rest {
    /// The process that follows.
    next: u32,
    /// What notices the end of the process that serves, if it is this one's to notice.
    parent: Option<Parent>,
    orders: mpsc::Receiver<Order>,
    signals: Signals,
    /// Whether nobody follows the process that follows.
    is_last: bool,
    /// Whether the process that served is gone.
    is_gone: bool,
}

impl Rest {
    /// Keeps the connections until none is left, or until they are to end.
    async fn keep(&mut self, run: &mut Run) -> Way {
        let gateway = Arc::clone(&run.gateway);
        let mut confess = interval(CONFESS);
        let mut left = pin!(gateway.drain().finish(Duration::MAX));
        loop {
            tokio::select! {
                drained = &mut left => return Way::Drained(drained),
                () = run.watch.changed() => run.reload().await,
                Some(order) = self.orders.recv() => match order {
                    Order::Reload => {
                        run.orders.send_modify(|orders| orders.reloads += 1);
                        run.reload().await;
                    }
                    Order::Reopen => run.reopen(),
                    Order::Drain => return Way::Within(run.drain_limit()),
                    Order::End => return Way::Within(Duration::ZERO),
                    Order::Followed => self.is_last = false,
                    Order::Lost(pid) => self.lose(run, pid, true),
                    Order::Gone => self.lose(run, self.next, self.is_last),
                },
                status = ended(&mut self.parent) => {
                    self.say_gone(run, self.next, Some(status));
                    return Way::Within(Duration::ZERO);
                }
                _ = confess.tick() => run.gateway.recorder().confess(),
                signal = self.signals.next() => match (&self.parent, signal) {
                    (Some(parent), signal) => parent.forward(signal),
                    (None, Signal::HUP) => run.reload().await,
                    (None, Signal::USR1) => run.reopen(),
                    (None, Signal::USR2) => tracing::warn!("another process serves already"),
                    // Whoever restarts the gateway waits for this process.
                    (None, _) if self.is_gone => return Way::Within(Duration::ZERO),
                    (None, _) => return Way::Within(run.drain_limit()),
                },
            }
        }
    }

    /// A process that followed is gone.
    fn lose(&mut self, run: &Run, pid: u32, has_served: bool) {
        if !has_served {
            tracing::warn!(
                pid,
                "the process that followed is gone, and another one serves; this one's connections \
                 are no longer counted there"
            );
        } else if self.parent.is_none() {
            self.say_gone(run, pid, None);
        }
    }

    fn say_gone(&mut self, run: &Run, pid: u32, status: Option<ExitStatus>) {
        self.is_gone = true;
        run.orders.send_modify(|orders| orders.lost = Some(pid));
        let open = run.gateway.drain().open();
        let status = status.map(|status| status.to_string());
        tracing::error!(
            pid,
            status,
            open,
            "the process that serves is gone; nobody can connect until the gateway is started again"
        );
        let news = format!("process {pid}, which served, is gone");
        systemd::tell(&[NotifyState::Status(&news)]);
    }

    /// Waits until the connections that are left are to end at once.
    async fn impatient(&mut self) {
        loop {
            tokio::select! {
                () = told_to_end(&mut self.orders) => return,
                _ = ended(&mut self.parent) => return,
                signal = self.signals.next() => match (&self.parent, signal) {
                    (Some(parent), signal) => parent.forward(signal),
                    (None, Signal::TERM | Signal::INT) => return,
                    (None, _) => {}
                },
            }
        }
    }

    /// Stays until the process ends that serves, if it is this one's to notice, and passes signals on.
    async fn stay(mut self) -> Option<ExitStatus> {
        self.parent.as_ref()?;
        drop(self.orders);
        tracing::info!(
            "nothing is left here; this process stays as the parent of the one that serves"
        );
        loop {
            tokio::select! {
                status = ended(&mut self.parent) => return Some(status),
                signal = self.signals.next() => if let Some(parent) = &self.parent {
                    parent.forward(signal);
                },
            }
        }
    }
}

/// Waits for the end of the process that serves; for ever if that is not this one's to notice. Cancel
/// safe.
async fn ended(parent: &mut Option<Parent>) -> ExitStatus {
    match parent {
        Some(parent) => parent.ended().await,
        None => pending().await,
    }
}

/// Waits for the order to end at once.
async fn told_to_end(orders: &mut mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::End) => return,
            Some(
                Order::Reload
                | Order::Reopen
                | Order::Drain
                | Order::Followed
                | Order::Lost(_)
                | Order::Gone,
            ) => {}
            None => pending().await,
        }
    }
}
