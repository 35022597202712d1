//! The life of one connection, in the order of its phases: handshake, authorization, admission,
//! relay.

use std::net::SocketAddr;
use std::sync::Arc;

use lb::DrainGuard;
use tls::client_stream::ClientStream;
use tls::handshake::{self, AcceptedClient, SessionProperties};
use tls::linger;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::access_record::{Outcome, Record};
use crate::address::unmapped;
use crate::expiry::certificate_ended;
use crate::limits::ConnectionSlot;
use crate::rejection::Rejection;
use crate::shared_state::SharedState;
use crate::snapshot::Permit;
use crate::worker_load::WorkerLoadGuard;

mod client_gate;
mod relay_session;

use client_gate::ClientGate;
use relay_session::RelaySession;

/// A client that completed its handshake and is authorized, with the session's properties.
struct AuthenticatedClient {
    client: Box<ClientStream>,
    permit: Permit,
    session: SessionProperties,
}

/// Serves one accepted connection up to the writing of its record.
///
/// Dropping this future closes both sockets as resets and returns all slots. Large state is in
/// allocations of its own, so that each phase of a connection uses no more memory than it needs.
pub(crate) async fn handle(
    shared: Arc<SharedState>,
    socket: TcpStream,
    peer: SocketAddr,
    counted: (DrainGuard, Option<WorkerLoadGuard>),
) {
    let destination = socket.local_addr().map_or(peer, unmapped);
    let mut record = Record::begin(shared.recorder(), unmapped(peer), destination);
    let outcome = match Box::pin(authenticate(&shared, socket, &mut record)).await {
        Ok((authenticated, slot)) => {
            Box::pin(serve(&shared, authenticated, slot, &mut record)).await
        }
        Err(rejection) => {
            if rejection.counts_towards_ban() {
                shared.handshake_failed(peer.ip());
            }
            Outcome::Rejected(rejection)
        }
    };
    record.end(outcome);
    drop(record);
    drop(counted);
}

/// Does the handshake, which authorizes the client, and takes a slot for its connection. The
/// handshake is bounded by the policy's handshake timeout.
async fn authenticate(
    shared: &SharedState,
    socket: TcpStream,
    record: &mut Record,
) -> Result<(AuthenticatedClient, ConnectionSlot), Rejection> {
    let limit = shared.snapshot().policy().gateway().timeouts.handshake;
    let deadline = Instant::now() + limit;
    let limits = shared.snapshot().policy().gateway().limits;
    let mut gate = ClientGate {
        shared,
        limits,
        record,
    };
    let AcceptedClient {
        stream: mut client,
        permit,
        slot: handshake,
        session,
    } = handshake::accept(socket, deadline, &mut gate).await?;
    let identity = permit.identity().clone();
    if session.resumed {
        record.resumed();
    }
    record.authorized(identity, &permit.group().name);
    let limits = shared.snapshot().policy().gateway().limits;
    let opened = shared.limits().take_connection_slot(&limits);
    let slot = opened.inspect_err(|_| lb::Downstream::abort(&mut *client))?;
    drop(handshake);
    let authenticated = AuthenticatedClient {
        client,
        permit,
        session,
    };
    Ok((authenticated, slot))
}

/// Serves an authorized client: admission by its limits, then the relay, until one of the reasons
/// in [`Outcome`] ends the connection.
async fn serve(
    shared: &SharedState,
    authenticated: AuthenticatedClient,
    _slot: ConnectionSlot,
    record: &mut Record,
) -> Outcome {
    let AuthenticatedClient {
        mut client,
        permit,
        session,
    } = authenticated;
    let SessionProperties {
        alpn,
        cipher,
        chain,
        ..
    } = session;
    let entered = shared
        .admit_client(&mut client, permit, chain, record)
        .await;
    let guard = match entered {
        Ok(guard) => guard,
        Err(outcome) => {
            lb::Downstream::abort(&mut *client);
            return outcome;
        }
    };
    let opened_records = shared.snapshot().policy().gateway().access_log.opened;
    let session = RelaySession {
        alpn: alpn.as_deref(),
        cipher,
        guard: &guard,
        opened_records,
    };
    let (ends, connection) = (guard.permit().expires(), record.connection());
    let on_revoke = || {
        let snapshot = shared.snapshot();
        let settings = snapshot.policy().gateway();
        (settings.on_revoke, settings.timeouts.drain)
    };
    let outcome = tokio::select! {
        outcome = session.relay(&mut client, record) => outcome,
        () = guard.revoked() => Outcome::Revoked,
        () = certificate_ended(ends, connection, on_revoke) => Outcome::CertificateEnded,
        () = shared.drain().cut_off() => Outcome::CutOff,
    };
    match outcome {
        Outcome::Finished | Outcome::ClientLeft => {}
        Outcome::Broken(_)
        | Outcome::Revoked
        | Outcome::CertificateEnded
        | Outcome::CutOff
        | Outcome::Rejected(_) => {
            lb::Downstream::abort(&mut *client);
        }
    }
    if let Outcome::Broken(_) = outcome
        && let Some(socket) = client.into_misbehaved_socket()
    {
        drop(guard);
        Box::pin(linger(socket)).await;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size in bytes of the future of a function with four arguments.
    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_small() {
        // There is one for each, in the handshake and after it.
        assert!(size(handle) <= 816, "{}", size(handle));
    }
}
