//! A process that another one has followed: its connections end, and perhaps it stays as a parent.

use std::future::pending;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use lb::Drained;
use rustix::process::Signal;
use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use super::hand_over::Followed;
use super::reload::Reloads;
use super::signals::Signals;
use super::{CONFESS, Ended, Run};
use crate::gateway::Queued;
use crate::systemd;
use crate::upgrade::{Order, Parent, Supervision};

/// How many orders of the process that serves may wait.
const ORDERS: usize = 16;

impl Run {
    /// Keeps what connections there are until they end, or until the gateway as a whole is to. Stays
    /// after that too if nobody else notices the end of the process that serves.
    pub(super) async fn be_followed(
        mut self,
        followed: Box<Followed>,
        signals: Signals,
        reloads: Reloads,
    ) -> Ended {
        let Followed { over, successor } = *followed;
        let (next, connections) = (successor.id(), successor.carried());
        let (supervision, reports) = successor.split();
        let mut telling = None;
        let parent = match supervision {
            Supervision::Manager => {
                // The new process tells the watchdog from now on.
                self.tell(&[NotifyState::MainPid(next), NotifyState::Watchdog]);
                let read = self.tasks.spawn(systemd::is_read());
                telling = Some(AbortOnDropHandle::new(read));
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
        // What waits at the listeners is the other process's.
        self.ending.begin(&self.tasks, &gateway, Queued::Theirs);
        let admin = self.admin.take();
        let closed = Arc::clone(&gateway);
        self.tasks.spawn(async move {
            // Whoever connects behind the answer is the new process's client.
            closed.drain().begun().await;
            let mut upgraded = over.upgraded;
            upgraded.connections = connections;
            over.wanted.done(upgraded);
            tracing::info!(
                open = closed.drain().open(),
                "another process serves; draining"
            );
            if let Some(admin) = admin {
                admin.hand_over().await;
            }
        });
        let mut rest = Rest {
            next,
            parent,
            telling,
            orders,
            signals,
            is_last: true,
            is_gone: false,
        };
        let drained = rest.keep(&mut self, reloads).await;
        let drained = self.wind_up(drained).await;
        gateway.live().is_drained();
        drop(gateway);
        match rest.stay().await {
            Some(status) => Ended::Followed(drained, status),
            None => Ended::Drained(drained),
        }
    }
}

/// What a process hears that another one follows.
#[derive(Debug)]
struct Rest {
    /// The process that follows.
    next: u32,
    /// What notices the end of the process that serves, if it is this one's to notice.
    parent: Option<Parent>,
    /// While the service manager may not know yet which process serves.
    telling: Option<AbortOnDropHandle<io::Result<()>>>,
    orders: mpsc::Receiver<Order>,
    signals: Signals,
    /// Whether nobody follows the process that follows.
    is_last: bool,
    /// Whether the process that served is gone.
    is_gone: bool,
}

impl Rest {
    /// Keeps the connections until none is left. As in the loop of the process that serves, nothing else
    /// is waited for.
    async fn keep(&mut self, run: &mut Run, mut reloads: Reloads) -> Drained {
        let mut confess = interval(CONFESS);
        loop {
            tokio::select! {
                // A signal came before the supervisor knew of the process that serves, if both are ready.
                biased;
                drained = run.ending.over() => return drained,
                signal = self.signals.next() => self.heed(run, &reloads, signal),
                () = run.end_passed_on.notified() => self.pass_the_end_on(run),
                () = told(&mut self.telling) => self.telling = None,
                Some(order) = self.orders.recv() => self.obey(run, &reloads, order),
                status = ended(&mut self.parent), if !self.is_gone => {
                    self.say_gone(run, self.next, Some(status));
                    run.drain(Duration::ZERO);
                }
                report = reloads.report() => run.heed(report),
                _ = confess.tick() => run.gateway.recorder().confess(),
            }
        }
    }

    /// Does what a signal says, or has the process do it that serves.
    fn heed(&mut self, run: &mut Run, reloads: &Reloads, signal: Signal) {
        match (&mut self.parent, signal) {
            (Some(parent), signal) => parent.forward(signal),
            (None, Signal::HUP) => run.reload(reloads),
            (None, Signal::USR1) => run.reopen(),
            (None, Signal::USR2) => tracing::warn!("another process serves already"),
            // Whoever restarts the gateway waits for this process.
            (None, _) if self.is_gone => run.drain(Duration::ZERO),
            // Whoever sent it took this process for the one that serves.
            (None, _) if self.telling.is_some() => self.pass_the_end_on(run),
            (None, _) => run.end(),
        }
    }

    /// Ends the gateway: this process and the one that serves.
    fn pass_the_end_on(&self, run: &mut Run) {
        tracing::info!(
            pid = self.next,
            "the gateway is to end: passed on to the process that serves"
        );
        if let Some(heir) = &*run.gateway.live().heir() {
            heir.drain();
        }
        run.end_as_passed_on();
    }

    /// Does what the process that serves wants.
    fn obey(&mut self, run: &mut Run, reloads: &Reloads, order: Order) {
        match order {
            Order::Reload => run.reload(reloads),
            Order::Reopen => run.reopen(),
            Order::Drain if run.ending.is_limited() => {}
            Order::Drain => run.end(),
            Order::End => run.drain(Duration::ZERO),
            Order::Followed => self.is_last = false,
            Order::Lost(pid) => self.lose(run, pid, true),
            Order::Gone => self.lose(run, self.next, self.is_last),
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
                signal = self.signals.next() => if let Some(parent) = &mut self.parent {
                    parent.forward(signal);
                },
            }
        }
    }
}

/// Waits until the service manager knows which process serves, or cannot be told; for ever if it does. Cancel
/// safe.
async fn told(telling: &mut Option<AbortOnDropHandle<io::Result<()>>>) {
    match telling {
        Some(telling) => drop(telling.await),
        None => pending().await,
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
