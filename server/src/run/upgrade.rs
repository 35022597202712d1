//! How one process of a gateway gives way to the next.

use std::future::pending;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lb::Drained;
use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::attempt::{Answer, Attempt, Wanted};
use super::signals::Signals;
use super::{CONFESS, Run};
use crate::admin::{Admin, USUAL_TIMEOUT, Upgrade, Upgraded};
use crate::inherited::Purpose;
use crate::program::resolved;
use crate::succession::{Candidate, Order, Successor, UpgradeError};

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
        let gateway = Arc::clone(&self.gateway);
        let file = resolved(&binary);
        tracing::info!(binary = %binary.display(), file = %file.display(), dry_run, "upgrading");
        attempt.begin(&self.tasks, wanted, async move {
            let more = more?.into_iter().collect();
            Candidate::start(&gateway, &binary, more, limit).await
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
            pid: candidate.id().unwrap_or_default(),
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

    /// Keeps what connections there are until they end, or until the gateway as a whole is to.
    pub(super) async fn be_followed(
        mut self,
        successor: Successor,
        mut signals: Signals,
    ) -> Drained {
        if let Some(process) = successor.id() {
            self.tell(&[NotifyState::MainPid(process)]);
        }
        self.is_followed = true;
        self.store = None;
        let (ordering, mut orders) = mpsc::channel(ORDERS);
        let gateway = Arc::clone(&self.gateway);
        self.tasks
            .spawn(successor.report(Arc::clone(&gateway), ordering));
        self.asked.close();
        if let Some(admin) = self.admin.take() {
            admin.hand_over().await;
        }
        gateway.close().await;
        tracing::info!(
            open = gateway.drain().open(),
            "another process serves; draining"
        );
        let mut confess = interval(CONFESS);
        let mut left = pin!(gateway.drain().finish(Duration::MAX));
        loop {
            tokio::select! {
                drained = &mut left => return self.wind_up(drained).await,
                () = self.watch.changed() => self.reload().await,
                Some(order) = orders.recv() => match order {
                    Order::Reload => {
                        self.orders.send_modify(|orders| orders.reloads += 1);
                        self.reload().await;
                    }
                    Order::Reopen => self.reopen(),
                    Order::Drain => break,
                    Order::End => return self.stop(Duration::ZERO, pending()).await,
                },
                _ = signals.reload.recv() => self.reload().await,
                _ = signals.upgrade.recv() => tracing::warn!("another process serves already"),
                _ = signals.reopen.recv() => self.reopen(),
                _ = confess.tick() => self.gateway.recorder().confess(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        let deadline = self.gateway.running().policy().gateway().timeouts.drain;
        let impatient = async {
            tokio::select! {
                () = told_to_end(&mut orders) => {}
                () = signals.end() => {}
            }
        };
        self.stop(deadline, impatient).await
    }
}

/// Waits for the order to end at once.
async fn told_to_end(orders: &mut mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::End) => return,
            Some(Order::Reload | Order::Reopen | Order::Drain) => {}
            None => pending().await,
        }
    }
}
