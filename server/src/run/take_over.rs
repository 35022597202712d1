//! Takeover from the old process: its connections, and its parent.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Signal, getpid, kill_process};
use rustls_pki_types::UnixTime;

use super::process::GatewayProcess;
use crate::upgrade::{OldProcess, ParentLink};
use gateway::credentials::PermitCheck;

impl GatewayProcess {
    /// Starts to count the connections of the old process, until it ends.
    pub(super) fn count_old_process(&self, old_process: OldProcess) {
        if let Some(stay) = self.gateway.drain().enter() {
            let gateway = Arc::clone(&self.gateway);
            let orders = self.forwarded.subscribe();
            let end = Arc::clone(&self.end_passed_on);
            let news = self.news.clone();
            news.send_modify(|news| news.old_process_drains = true);
            let counting = old_process.count_connections(gateway, orders, end, stay);
            self.tasks.spawn(async move {
                counting.await;
                news.send_modify(|news| news.old_process_drains = false);
            });
            self.end_revoked_remote();
        }
    }

    /// Ends connections of older processes that this process's policy would not permit: they may
    /// have failed to read it.
    fn end_revoked_remote(&self) {
        let snapshot = self.gateway.snapshot();
        let check = PermitCheck::WithChain(UnixTime::now());
        let revoked = self
            .gateway
            .shared()
            .connections()
            .revoked_remote(&snapshot, check);
        if !revoked.is_empty() {
            let gateway = snapshot.policy().gateway();
            tracing::info!(
                revoked = revoked.len(),
                "connections of the old process were revoked"
            );
            self.tasks
                .spawn(revoked.end(gateway.on_revoke, gateway.timeouts.drain));
        }
    }

    /// Attaches this process to the one that was started first, if that stays as the parent of all
    /// later ones. The end of the parent counts as SIGTERM: the supervisor of the gateway knows no
    /// other process that it could end.
    pub(super) fn attach_parent(&mut self, socket: Option<OwnedFd>) -> io::Result<()> {
        let Some(socket) = socket else {
            return Ok(());
        };
        let (child, tie) = ParentLink::new(socket)?;
        self.parent = Some(child);
        self.tasks.spawn(async move {
            tie.closed().await;
            tracing::error!("the gateway's first process, the parent of this one, has ended");
            if let Err(error) = kill_process(getpid(), Signal::TERM) {
                tracing::error!(%error, "cannot end this process");
            }
        });
        Ok(())
    }
}
