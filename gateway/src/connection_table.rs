//! The connections that hold a permit. The table is needed to end a connection whose permit is
//! revoked, and to report the connections to the process that replaces this one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use lb::{ClientSlot, Lease};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use policy::ClientName;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection_event::ConnectionState;
use crate::credentials::{
    ClientCredentials, CredentialsMessage, PermitCheck, is_granted, is_trusted,
};
use crate::remote_admission::RemoteAdmission;
use crate::snapshot::{GatewaySnapshot, Permit};

mod remote;
mod revoked;

pub(crate) use remote::{EndRequests, RemoteConnection, RemoteDetails};
use revoked::EndSignal;
pub use revoked::RevokedConnections;

/// Number of locks (shards) that the table is divided into. Each is held for one insertion or
/// removal.
const SHARDS: usize = 16;

/// The table of connections that hold a permit.
///
/// A change of the table is made while `remote_admission` is locked for reading. So the new process
/// is notified of every change that is not in the state that it was given, and of no other.
#[derive(Debug, Default)]
pub struct ConnectionTable {
    shards: [Mutex<HashMap<u64, Arc<ConnectionEntry>>>; SHARDS],
    remote: Mutex<HashMap<u64, RemoteConnection>>,
    remote_admission: RwLock<Option<Arc<RemoteAdmission>>>,
    /// Notified when another process begins to decide about admissions, or another generation is in
    /// force.
    changes: watch::Sender<()>,
}

/// Data of a connection of this process that are needed to check its permit again.
#[derive(Debug)]
struct ConnectionEntry {
    permit: Permit,
    chain: Vec<CertificateDer<'static>>,
    revoked: CancellationToken,
    upstream: OnceLock<SocketAddr>,
}

/// A connection's entry in the [`ConnectionTable`], which is removed on drop, and its client's
/// slot.
#[derive(Debug)]
pub struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    connection: u64,
    entry: Arc<ConnectionEntry>,
    _admission: ClientSlot,
}

impl ConnectionTable {
    /// Inserts a connection.
    ///
    /// Call [`ConnectionGuard::still_holds`] afterwards: a generation that came into force between
    /// the permit and the insertion did not see this connection.
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

    /// Returns the process that counts the clients instead of this one; `None` if this process
    /// counts them. It does not change while the returned lock is held; connections are inserted
    /// while it is held.
    pub(crate) fn remote_admission(&self) -> RwLockReadGuard<'_, Option<Arc<RemoteAdmission>>> {
        self.remote_admission.read()
    }

    /// Returns a receiver that is notified when a waiting client must check again which process
    /// decides, and by which policy.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Notifies waiting clients that another generation is in force.
    pub(crate) fn notify_changed(&self) {
        self.changes.send_replace(());
    }

    /// Makes another process count the clients from now on. Returns the state of all connections,
    /// which that process does not know yet: those of this process and of older ones.
    pub fn admit_remotely(&self, remote_admission: Arc<RemoteAdmission>) -> Vec<ConnectionState> {
        let mut counting = self.remote_admission.write();
        *counting = Some(remote_admission);
        self.notify_changed();
        let mut all = Vec::with_capacity(self.open());
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

    /// Makes this process count the clients itself, after [`ConnectionTable::admit_remotely`].
    pub fn admit_locally(&self) {
        *self.remote_admission.write() = None;
        self.notify_changed();
    }

    /// Inserts a connection of an older process. The caller holds the lock of
    /// [`ConnectionTable::remote_admission`].
    pub(crate) fn insert_remote(&self, connection: u64, remote: RemoteConnection) {
        self.remote.lock().insert(connection, remote);
    }

    /// Notes that a connection of an older process has reached its upstream. `lease` counts it at
    /// the upstream, if the group is known.
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

    /// Removes a connection of an older process, which has ended.
    pub(crate) fn remove_remote(&self, connection: u64) {
        let remote_admission = self.remote_admission();
        let released = self.remote.lock().remove(&connection);
        if released.is_some()
            && let Some(remote_admission) = &*remote_admission
        {
            remote_admission.ended(connection);
        }
    }

    /// Returns the number of this process's connections that hold a permit.
    pub fn open(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Returns, for each client with a connection of this process, the time at which the first
    /// certificate in the chains of its connections ends. A shard is locked for one copy of it.
    pub fn certificate_ends(&self) -> HashMap<ClientName, UnixTime> {
        let mut first = HashMap::new();
        for shard in &self.shards {
            let entries: Vec<Arc<ConnectionEntry>> = shard.lock().values().cloned().collect();
            for permit in entries.iter().map(|entry| &entry.permit) {
                if let Some(ends) = permit.expires() {
                    let earliest = first.entry(permit.identity().name().clone());
                    let earliest: &mut UnixTime = earliest.or_insert(ends);
                    *earliest = ends.min(*earliest);
                }
            }
        }
        first
    }

    /// Finds the connections whose permit `snapshot` would not give again, also those of older
    /// processes.
    pub(crate) fn revoked(
        &self,
        snapshot: &GatewaySnapshot,
        check: PermitCheck,
    ) -> RevokedConnections {
        let entries: Vec<Arc<ConnectionEntry>> = self
            .shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect();
        let here = entries
            .iter()
            .filter(|entry| !entry.holds(snapshot, check))
            .map(|entry| EndSignal::Local(entry.revoked.clone()));
        let mut connections: Vec<EndSignal> = here.collect();
        connections.extend(self.revoked_remote(snapshot, check).connections);
        RevokedConnections { connections }
    }

    /// Finds the revoked connections of older processes. This process decides for them, because
    /// they may not be able to read the files that it reads.
    pub fn revoked_remote(
        &self,
        snapshot: &GatewaySnapshot,
        check: PermitCheck,
    ) -> RevokedConnections {
        let remote: Vec<Arc<RemoteDetails>> = {
            let remote = self.remote.lock();
            let details = remote.values().map(|one| Arc::clone(&one.details));
            details.collect()
        };
        let revoked = remote
            .into_iter()
            .filter(|details| details.is_revoked(snapshot, check));
        RevokedConnections {
            connections: revoked.map(EndSignal::Remote).collect(),
        }
    }

    /// Ends a connection of an older process if its permit was revoked.
    pub(crate) fn end_if_revoked(&self, connection: u64, snapshot: &GatewaySnapshot) {
        let details = self.remote_details(connection);
        if let Some(details) = details
            && details.is_revoked(snapshot, PermitCheck::WithChain(UnixTime::now()))
        {
            details.end();
        }
    }

    /// Ends a connection of this or an older process, as the new process requests.
    pub fn end(&self, connection: u64) {
        // Admissions that are not inserted yet first: a connection that is inserted meanwhile is
        // found in one of the two places.
        self.remote_admission()
            .iter()
            .for_each(|remote_admission| remote_admission.end(connection));
        self.end_entered(connection);
    }

    /// Ends a connection that is in this table already, of this process or of an older one.
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
    fn holds(&self, snapshot: &GatewaySnapshot, check: PermitCheck) -> bool {
        let permit = &self.permit;
        let (identity, destination) = (permit.identity(), permit.destination());
        is_trusted(&self.chain, snapshot, check)
            && is_granted(identity, destination, &permit.group().name, snapshot)
    }
}

impl ConnectionGuard {
    /// Returns the permit of the connection.
    pub fn permit(&self) -> &Permit {
        &self.entry.permit
    }

    /// Returns true if the [`Permit`] is still valid under `snapshot`, the generation that is in
    /// force now.
    pub fn still_holds(&self, snapshot: &GatewaySnapshot, now: UnixTime) -> bool {
        snapshot.generation() == self.entry.permit.generation()
            || self.entry.holds(snapshot, PermitCheck::WithChain(now))
    }

    /// Notes that the connection has reached its upstream, and reports it to the process that
    /// counts the clients.
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
