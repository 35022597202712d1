//! Connections of older processes, which this process counts.

use std::net::SocketAddr;
use std::sync::Arc;

use lb::ClientSlot;

use crate::connection_event::ConnectionState;
use crate::connection_table::{EndRequests, RemoteConnection, RemoteDetails};
use crate::credentials::CredentialsMessage;
use crate::shared_state::SharedState;

impl SharedState {
    /// Counts a connection that an older process has, whatever the limits say. Returns its number
    /// in this process.
    pub(crate) fn count_remote(&self, state: &ConnectionState, cut: &EndRequests) -> Option<u64> {
        let connection = self.recorder().number();
        let _remote_admission = self.connections().remote_admission();
        let client = self
            .balancer()
            .limiter()
            .admit_unlimited(&state.client.as_str().into());
        self.insert_remote(connection, client, state, cut)?;
        Some(connection)
    }

    pub(super) fn insert_remote(
        &self,
        connection: u64,
        client: ClientSlot,
        state: &ConnectionState,
        cut: &EndRequests,
    ) -> Option<()> {
        let known = self.balancer().group(&state.group);
        let remote = RemoteConnection {
            client,
            upstream: known
                .zip(state.upstream)
                .map(|(group, upstream)| group.adopt(upstream)),
            details: Arc::new(RemoteDetails {
                group: state.group.as_str().into(),
                credentials: state
                    .credentials
                    .as_ref()
                    .and_then(CredentialsMessage::read),
                end_requests: cut.clone(),
                connection: state.connection,
            }),
            _slot: self.limits().take_remote_slot()?,
        };
        self.connections().insert_remote(connection, remote);
        Some(())
    }

    /// Notes that a connection of an older process has reached its upstream.
    pub(crate) fn remote_dialed(&self, connection: u64, upstream: SocketAddr) {
        self.connections()
            .remote_dialed(connection, upstream, |group| {
                Some(self.balancer().group(group)?.adopt(upstream))
            });
    }
}
