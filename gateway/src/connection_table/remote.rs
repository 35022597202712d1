//! Connections of older processes, which this process counts and decides about.

use std::sync::Arc;

use lb::{ClientSlot, Lease};
use tokio::sync::mpsc;

use crate::credentials::{ClientCredentials, PermitCheck};
use crate::limits::ConnectionSlot;
use crate::snapshot::GatewaySnapshot;

/// The slots that a connection of an older process takes in this process.
#[derive(Debug)]
pub(crate) struct RemoteConnection {
    pub(crate) client: ClientSlot,
    pub(crate) upstream: Option<Lease>,
    pub(crate) details: Arc<RemoteDetails>,
    pub(crate) _slot: ConnectionSlot,
}

/// Data that are needed to decide about a connection of an older process, and to make that process
/// end it.
#[derive(Debug)]
pub(crate) struct RemoteDetails {
    pub(crate) group: Arc<str>,
    /// The credentials that its client was admitted with, if the other process reports them.
    pub(crate) credentials: Option<ClientCredentials>,
    pub(crate) end_requests: EndRequests,
    /// The number that the other process gave the connection.
    pub(crate) connection: u64,
}

/// Sender of requests to an older process to end connections, given by that process's numbers.
#[derive(Debug, Clone)]
pub(crate) struct EndRequests(mpsc::UnboundedSender<u64>);

impl EndRequests {
    /// Creates a channel to an older process: the sender, and the receiver of the connections'
    /// numbers.
    #[expect(
        clippy::disallowed_methods,
        reason = "only connections come through, a few times each, and connections are bounded"
    )]
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<u64>) {
        let (cut, connections) = mpsc::unbounded_channel();
        (Self(cut), connections)
    }
}

impl RemoteDetails {
    /// Returns true if `snapshot` does not allow the connection. Without credentials the other
    /// process decides, and the answer is false.
    pub(super) fn is_revoked(&self, snapshot: &GatewaySnapshot, check: PermitCheck) -> bool {
        let credentials = self.credentials.as_ref();
        credentials.is_some_and(|shown| !shown.are_valid(snapshot, &self.group, check))
    }

    pub(super) fn end(&self) {
        // If the other process is gone, so is the connection.
        self.end_requests.0.send(self.connection).ok();
    }
}
