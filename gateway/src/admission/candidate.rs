//! Candidates for admission: clients of this process, and of older ones.

use lb::{ClientLimits, ClientSlot};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::balancer_config;
use crate::connection_event::ConnectionState;
use crate::connection_table::{ConnectionGuard, EndRequests};
use crate::credentials::{CredentialsMessage, PermitCheck, is_granted, is_trusted};
use crate::shared_state::SharedState;
use crate::snapshot::{GatewaySnapshot, Permit};

/// A client to be admitted: its limits, its credentials and its insertion into the
/// [`crate::connection_table::ConnectionTable`].
pub(super) trait AdmissionCandidate {
    type Entered;

    /// Returns its limits in this generation; `None` if it may not be admitted any more.
    fn limits(&self, snapshot: &GatewaySnapshot) -> Option<ClientLimits>;

    /// Returns the credentials for another process that decides about it.
    fn credentials(&self) -> Option<CredentialsMessage>;

    /// Inserts it into the table, with the slot that it was given.
    fn insert(self, slot: ClientSlot) -> Self::Entered;
}

/// A client of this process.
pub(super) struct LocalCandidate<'a> {
    pub(super) shared: &'a SharedState,
    pub(super) connection: u64,
    pub(super) permit: Permit,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl AdmissionCandidate for LocalCandidate<'_> {
    type Entered = ConnectionGuard;

    fn limits(&self, snapshot: &GatewaySnapshot) -> Option<ClientLimits> {
        let permit = &self.permit;
        if snapshot.generation() == permit.generation() {
            return Some(balancer_config::client(permit.client()));
        }
        let (identity, group) = (permit.identity(), &permit.group().name);
        let may_come = is_trusted(
            &self.chain,
            snapshot,
            PermitCheck::WithChain(UnixTime::now()),
        ) && is_granted(identity, permit.destination(), group, snapshot);
        let client = snapshot.policy().client(identity.name().as_str())?;
        may_come.then(|| balancer_config::client(client))
    }

    fn credentials(&self) -> Option<CredentialsMessage> {
        CredentialsMessage::of(&self.permit, &self.chain)
    }

    fn insert(self, slot: ClientSlot) -> ConnectionGuard {
        let connections = self.shared.connections();
        connections.insert(self.connection, self.permit, self.chain, slot)
    }
}

/// A client of an older process.
pub(super) struct RemoteCandidate<'a> {
    pub(super) shared: &'a SharedState,
    pub(super) connection: u64,
    pub(super) state: &'a ConnectionState,
    pub(super) end_requests: &'a EndRequests,
}

impl AdmissionCandidate for RemoteCandidate<'_> {
    type Entered = Option<()>;

    fn limits(&self, snapshot: &GatewaySnapshot) -> Option<ClientLimits> {
        let client = snapshot.policy().client(&self.state.client)?;
        let credentials = self
            .state
            .credentials
            .as_ref()
            .and_then(CredentialsMessage::read);
        let check = PermitCheck::WithChain(UnixTime::now());
        let may_come = credentials
            .is_none_or(|credentials| credentials.are_valid(snapshot, &self.state.group, check));
        may_come.then(|| balancer_config::client(client))
    }

    fn credentials(&self) -> Option<CredentialsMessage> {
        self.state.credentials.clone()
    }

    fn insert(self, slot: ClientSlot) -> Option<()> {
        self.shared
            .insert_remote(self.connection, slot, self.state, self.end_requests)
    }
}
