//! The connections that hold a permit, so that one that is revoked can be ended, and so that the process
//! that replaces this one can count them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lb::{ClientSlot, Lease};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::credentials::{ClientCredentials, CredentialsMessage, is_granted, is_trusted};
use crate::limits::ConnectionSlot;
use crate::snapshot::{GatewaySnapshot, Permit};
use crate::upgrade::protocol::ConnectionState;
use crate::upgrade::remote_admission::RemoteAdmission;

mod revoked;

use revoked::EndSignal;
pub use revoked::RevokedConnections;

/// Over how long connections that are cut off together are spread.
pub const END_SPREAD: Duration = Duration::from_secs(1);
/// How many locks the table is spread over; each is held for one insertion or removal.
const SHARDS: usize = 16;

/// The table of connections that hold a permit.
///
/// Whoever changes it holds `remote_admission` for reading, so that the new process is told of every
/// change that is not in what it was given, and of no other.
#[derive(Debug, Default)]
pub struct ConnectionTable {
    shards: [Mutex<HashMap<u64, Arc<ConnectionEntry>>>; SHARDS],
    remote: Mutex<HashMap<u64, RemoteConnection>>,
    remote_admission: RwLock<Option<Arc<RemoteAdmission>>>,
    /// Sent when another process decides, or another generation.
    changes: watch::Sender<()>,
}

/// A connection of an older process, as it counts here.
#[derive(Debug)]
pub(crate) struct RemoteConnection {
    pub(crate) client: ClientSlot,
    pub(crate) upstream: Option<Lease>,
    pub(crate) details: Arc<RemoteDetails>,
    pub(crate) _slot: ConnectionSlot,
}

/// What it takes to decide about a connection of an older process, and to have that end it.
#[derive(Debug)]
pub(crate) struct RemoteDetails {
    pub(crate) group: Arc<str>,
    /// What its client was admitted with, if the other process tells.
    pub(crate) credentials: Option<ClientCredentials>,
    pub(crate) end_requests: EndRequests,
    /// The other process's number of the connection.
    pub(crate) connection: u64,
}

/// Has an older process end connections, by its numbers.
#[derive(Debug, Clone)]
pub(crate) struct EndRequests(mpsc::UnboundedSender<u64>);

impl EndRequests {
    /// A way to an older process, and what comes out there.
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
    /// Without credentials the other process decides.
    fn is_revoked(&self, snapshot: &GatewaySnapshot, verify_at: Option<UnixTime>) -> bool {
        let credentials = self.credentials.as_ref();
        credentials.is_some_and(|shown| !shown.are_valid(snapshot, &self.group, verify_at))
    }

    fn end(&self) {
        // If the other process is gone, so is the connection.
        self.end_requests.0.send(self.connection).ok();
    }
}

/// What is needed to ask again whether a connection may be.
#[derive(Debug)]
struct ConnectionEntry {
    permit: Permit,
    chain: Vec<CertificateDer<'static>>,
    revoked: CancellationToken,
    upstream: OnceLock<SocketAddr>,
}

/// A connection's line in the table, taken out on drop, and its client's admission.
#[derive(Debug)]
pub struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    connection: u64,
    entry: Arc<ConnectionEntry>,
    _admission: ClientSlot,
}

impl ConnectionTable {
    /// Enters a connection.
    ///
    /// [`ConnectionGuard::still_holds`] is asked afterwards: a generation that came into force
    /// between the permit and the entry did not see it.
    pub fn insert(
        self: &Arc<Self>,
        connection: u64,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
        admission: ClientSlot,
    ) -> ConnectionGuard {
        let entry = Arc::new(ConnectionEntry {
            permit,
            chain,
            revoked: CancellationToken::new(),
            upstream: OnceLock::new(),
        });
        self.shard(connection)
            .lock()
            .insert(connection, Arc::clone(&entry));
        ConnectionGuard {
            table: Arc::clone(self),
            connection,
            entry,
            _admission: admission,
        }
    }

    /// Who counts the clients instead of this process. It stays so while this is held; whoever enters
    /// a connection does so meanwhile.
    pub(crate) fn remote_admission(&self) -> RwLockReadGuard<'_, Option<Arc<RemoteAdmission>>> {
        self.remote_admission.read()
    }

    /// Reports whenever a client that waits has to look again at which process decides, and by what.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Another generation is in force.
    pub(crate) fn notify_changed(&self) {
        self.changes.send_replace(());
    }

    /// Has another process count the clients from now on. Returns what it does not know yet.
    pub(crate) fn admit_remotely(
        &self,
        remote_admission: Arc<RemoteAdmission>,
    ) -> Vec<ConnectionState> {
        let mut counting = self.remote_admission.write();
        *counting = Some(remote_admission);
        self.notify_changed();
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.iter().map(|(&connection, entry)| ConnectionState {
                connection,
                client: entry.permit.identity().name().as_str().to_owned(),
                group: entry.permit.group().name.to_string(),
                upstream: entry.upstream.get().copied(),
                credentials: CredentialsMessage::of(&entry.permit, &entry.chain),
            }));
        }
        let remote = self.remote.lock();
        all.extend(remote.iter().map(|(&connection, remote)| {
            let credentials = remote.details.credentials.as_ref();
            ConnectionState {
                connection,
                client: remote.client.client().to_string(),
                group: remote.details.group.to_string(),
                upstream: remote.upstream.as_ref().map(Lease::address),
                credentials: credentials.and_then(ClientCredentials::to_message),
            }
        }));
        all
    }

    /// Tells the process that counts the clients that none is left here.
    pub(crate) fn report_drained(&self) {
        if let Some(remote_admission) = &*self.remote_admission() {
            remote_admission.drained();
        }
    }

    /// Has this process count the clients itself.
    pub(crate) fn admit_locally(&self) {
        *self.remote_admission.write() = None;
        self.notify_changed();
    }

    /// Counts a connection of an old process. Whoever inserts it holds [`ConnectionTable::remote_admission`].
    pub(crate) fn insert_remote(&self, connection: u64, remote: RemoteConnection) {
        self.remote.lock().insert(connection, remote);
    }

    /// A connection of an older process has reached its upstream. `lease` counts it there, if the
    /// group is known.
    pub(crate) fn remote_dialed(
        &self,
        connection: u64,
        upstream: SocketAddr,
        lease: impl FnOnce(&str) -> Option<Lease>,
    ) {
        let remote_admission = self.remote_admission();
        if let Some(remote) = self.remote.lock().get_mut(&connection) {
            remote.upstream = lease(&remote.details.group);
            if let Some(remote_admission) = &*remote_admission {
                remote_admission.dialed(connection, upstream);
            }
        }
    }

    /// A connection of an older process has ended.
    pub(crate) fn remove_remote(&self, connection: u64) {
        let remote_admission = self.remote_admission();
        let released = self.remote.lock().remove(&connection);
        if released.is_some()
            && let Some(remote_admission) = &*remote_admission
        {
            remote_admission.ended(connection);
        }
    }

    /// How many connections hold a permit.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Finds the connections whose permit `running` would not give again.
    ///
    /// With `trust_changed` their certificates are verified again too, which costs a signature's
    /// verification each.
    pub fn revoked(
        &self,
        snapshot: &GatewaySnapshot,
        trust_changed: bool,
        now: UnixTime,
    ) -> RevokedConnections {
        let entries: Vec<Arc<ConnectionEntry>> = self
            .shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect();
        let verify_at = trust_changed.then_some(now);
        let here = entries
            .iter()
            .filter(|entry| !entry.holds(snapshot, verify_at))
            .map(|entry| EndSignal::Local(entry.revoked.clone()));
        let mut connections: Vec<EndSignal> = here.collect();
        connections.extend(self.revoked_remote(snapshot, verify_at).connections);
        RevokedConnections { connections }
    }

    /// Finds those of older processes, for which this one decides: they may not be able to read what
    /// it reads.
    pub(crate) fn revoked_remote(
        &self,
        snapshot: &GatewaySnapshot,
        verify_at: Option<UnixTime>,
    ) -> RevokedConnections {
        let remote: Vec<Arc<RemoteDetails>> = {
            let remote = self.remote.lock();
            let details = remote.values().map(|one| Arc::clone(&one.details));
            details.collect()
        };
        let revoked = remote
            .into_iter()
            .filter(|details| details.is_revoked(snapshot, verify_at));
        RevokedConnections {
            connections: revoked.map(EndSignal::Remote).collect(),
        }
    }

    /// Ends a connection of an older process if its permit was revoked.
    pub(crate) fn end_if_revoked(&self, connection: u64, snapshot: &GatewaySnapshot) {
        let details = self.remote_details(connection);
        if let Some(details) = details
            && details.is_revoked(snapshot, Some(UnixTime::now()))
        {
            details.end();
        }
    }

    /// Ends a connection, whichever process it is in, as the new process wants it.
    pub(crate) fn end(&self, connection: u64) {
        // First here: one that enters meanwhile is seen in the one place or the other.
        self.remote_admission()
            .iter()
            .for_each(|remote_admission| remote_admission.end(connection));
        self.end_entered(connection);
    }

    /// The same, of one that has entered.
    pub(crate) fn end_entered(&self, connection: u64) {
        if let Some(entry) = self.shard(connection).lock().get(&connection) {
            entry.revoked.cancel();
        } else if let Some(details) = self.remote_details(connection) {
            details.end();
        }
    }

    fn remote_details(&self, connection: u64) -> Option<Arc<RemoteDetails>> {
        let remote = self.remote.lock();
        let remote = remote.get(&connection)?;
        Some(Arc::clone(&remote.details))
    }

    fn shard(&self, connection: u64) -> &Mutex<HashMap<u64, Arc<ConnectionEntry>>> {
        &self.shards[usize::try_from(connection).unwrap_or(0) % SHARDS]
    }
}

impl ConnectionEntry {
    fn holds(&self, snapshot: &GatewaySnapshot, verify_at: Option<UnixTime>) -> bool {
        let permit = &self.permit;
        let (identity, destination) = (permit.identity(), permit.destination());
        is_trusted(&self.chain, snapshot, verify_at)
            && is_granted(identity, destination, &permit.group().name, snapshot)
    }
}

impl ConnectionGuard {
    /// The permit that is held.
    pub fn permit(&self) -> &Permit {
        &self.entry.permit
    }

    /// Whether the permit holds under the generation that is in force now.
    pub fn still_holds(&self, snapshot: &GatewaySnapshot, now: UnixTime) -> bool {
        snapshot.generation() == self.entry.permit.generation()
            || self.entry.holds(snapshot, Some(now))
    }

    /// The connection has reached its upstream.
    pub fn dialed(&self, upstream: SocketAddr) {
        let remote_admission = self.table.remote_admission();
        // It is dialed once.
        self.entry.upstream.set(upstream).ok();
        if let Some(remote_admission) = &*remote_admission {
            remote_admission.dialed(self.connection, upstream);
        }
    }

    /// Waits until the permit is revoked and the connection must end. Cancel safe.
    pub async fn revoked(&self) {
        self.entry.revoked.cancelled().await;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let remote_admission = self.table.remote_admission();
        self.table
            .shard(self.connection)
            .lock()
            .remove(&self.connection);
        if let Some(remote_admission) = &*remote_admission {
            remote_admission.ended(self.connection);
        }
    }
}
