//! A client that wants to come in: one of this process, or one of an older one.

use lb::{Admission, ClientLimits};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::balancer_config;
use crate::connection_table::{Cut, Holder};
use crate::credentials::{Shown, is_granted, is_trusted};
use crate::gateway::Gateway;
use crate::snapshot::{Permit, Running};
use crate::upgrade::protocol::Carried;

/// What is asked of a client, and done with it.
pub(super) trait Newcomer {
    type Entered;

    /// What it may by this revision; `None` if it may not come in any more.
    fn limits(&self, running: &Running) -> Option<ClientLimits>;

    /// What another process is shown, for which this one asks.
    fn shown(&self) -> Option<Shown>;

    /// Enters it in the table.
    fn enter(self, admission: Admission) -> Self::Entered;
}

/// A client of this process.
pub(super) struct Own<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) connection: u64,
    pub(super) permit: Permit,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Newcomer for Own<'_> {
    type Entered = Holder;

    fn limits(&self, running: &Running) -> Option<ClientLimits> {
        let permit = &self.permit;
        if running.generation() == permit.generation() {
            return Some(balancer_config::client(permit.client()));
        }
        let (identity, group) = (permit.identity(), &permit.group().name);
        let may_come = is_trusted(&self.chain, running, Some(UnixTime::now()))
            && is_granted(identity, permit.destination(), group, running);
        let client = running.policy().client(identity.name().as_str())?;
        may_come.then(|| balancer_config::client(client))
    }

    fn shown(&self) -> Option<Shown> {
        Shown::of(&self.permit, &self.chain)
    }

    fn enter(self, admission: Admission) -> Holder {
        let live = &self.gateway.live;
        live.enter(self.connection, self.permit, self.chain, admission)
    }
}

/// A client of an older process.
pub(super) struct Others<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) connection: u64,
    pub(super) arrived: &'a Carried,
    pub(super) cut: &'a Cut,
}

impl Newcomer for Others<'_> {
    type Entered = Option<()>;

    fn limits(&self, running: &Running) -> Option<ClientLimits> {
        let client = running.policy().client(&self.arrived.client)?;
        let credentials = self.arrived.shown.as_ref().and_then(Shown::read);
        let now = Some(UnixTime::now());
        let may_come =
            credentials.is_none_or(|shown| shown.hold(running, &self.arrived.group, now));
        may_come.then(|| balancer_config::client(client))
    }

    fn shown(&self) -> Option<Shown> {
        self.arrived.shown.clone()
    }

    fn enter(self, admission: Admission) -> Option<()> {
        self.gateway
            .adopt(self.connection, admission, self.arrived, self.cut)
    }
}
