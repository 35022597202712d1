//! The connections that hold a permit, so that one that lapses can be ended, and so that the process
//! that follows this one can count them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lb::{Admission, Lease};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::credentials::{Credentials, Shown, is_granted, is_trusted};
use crate::limits::ConnectionSlot;
use crate::snapshot::{Permit, Running};
use crate::upgrade::protocol::Carried;
use crate::upgrade::remote_admission::Heir;

mod revoked;

use revoked::Ending;
pub use revoked::Lapsed;

/// Over how long connections that are cut off together are spread.
pub const CUT_SPREAD: Duration = Duration::from_secs(1);
/// How many locks the table is spread over; each is held for one insertion or removal.
const SHARDS: usize = 16;

/// The table of connections that hold a permit.
///
/// Whoever changes it holds `heir` for reading, so that the process that follows is told of every
/// change that is not in what it was given, and of no other.
#[derive(Debug, Default)]
pub struct Live {
    shards: [Mutex<HashMap<u64, Arc<Entry>>>; SHARDS],
    adopted: Mutex<HashMap<u64, Adopted>>,
    heir: RwLock<Option<Arc<Heir>>>,
    /// Sent when another process decides, or another revision.
    news: watch::Sender<()>,
}

/// A connection of an older process, as it counts here.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) client: Admission,
    pub(crate) upstream: Option<Lease>,
    pub(crate) elsewhere: Arc<Elsewhere>,
    pub(crate) _slot: ConnectionSlot,
}

/// What it takes to decide about a connection of an older process, and to have that end it.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    pub(crate) group: Arc<str>,
    /// What its client was let in with, if the other process tells.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) cut: Cut,
    /// The other process's number of the connection.
    pub(crate) connection: u64,
}

/// Has an older process end connections, by its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Cut(mpsc::UnboundedSender<u64>);

impl Cut {
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

impl Elsewhere {
    /// Without credentials the other process decides.
    fn lapses(&self, running: &Running, verify_at: Option<UnixTime>) -> bool {
        let credentials = self.credentials.as_ref();
        credentials.is_some_and(|shown| !shown.hold(running, &self.group, verify_at))
    }

    fn end(&self) {
        // If the other process is gone, so is the connection.
        self.cut.0.send(self.connection).ok();
    }
}

/// What is needed to ask again whether a connection may be.
#[derive(Debug)]
struct Entry {
    permit: Permit,
    chain: Vec<CertificateDer<'static>>,
    lapsed: CancellationToken,
    upstream: OnceLock<SocketAddr>,
}

/// A connection's line in the table, taken out on drop, and its client's admission.
#[derive(Debug)]
pub struct Holder {
    live: Arc<Live>,
    connection: u64,
    entry: Arc<Entry>,
    _admission: Admission,
}

impl Live {
    /// Enters a connection.
    ///
    /// [`Holder::still_holds`] is asked afterwards: a revision that came into force
    /// between the permit and the entry did not see it.
    pub fn enter(
        self: &Arc<Self>,
        connection: u64,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
        admission: Admission,
    ) -> Holder {
        let entry = Arc::new(Entry {
            permit,
            chain,
            lapsed: CancellationToken::new(),
            upstream: OnceLock::new(),
        });
        self.shard(connection)
            .lock()
            .insert(connection, Arc::clone(&entry));
        Holder {
            live: Arc::clone(self),
            connection,
            entry,
            _admission: admission,
        }
    }

    /// Who counts the clients instead of this process. It stays so while this is held; whoever enters
    /// a connection does so meanwhile.
    pub(crate) fn heir(&self) -> RwLockReadGuard<'_, Option<Arc<Heir>>> {
        self.heir.read()
    }

    /// Hears whenever who waits to be let in has to look again at who decides, and by what.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Another revision is in force.
    pub(crate) fn tell_news(&self) {
        self.news.send_replace(());
    }

    /// Has another process count the clients from now on. Returns what it does not know yet.
    pub(crate) fn hand_over(&self, heir: Arc<Heir>) -> Vec<Carried> {
        let mut counting = self.heir.write();
        *counting = Some(heir);
        self.tell_news();
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.iter().map(|(&connection, entry)| Carried {
                connection,
                client: entry.permit.identity().name().as_str().to_owned(),
                group: entry.permit.group().name.to_string(),
                upstream: entry.upstream.get().copied(),
                shown: Shown::of(&entry.permit, &entry.chain),
            }));
        }
        let adopted = self.adopted.lock();
        all.extend(adopted.iter().map(|(&connection, adopted)| {
            let credentials = adopted.elsewhere.credentials.as_ref();
            Carried {
                connection,
                client: adopted.client.client().to_string(),
                group: adopted.elsewhere.group.to_string(),
                upstream: adopted.upstream.as_ref().map(Lease::address),
                shown: credentials.and_then(Credentials::show),
            }
        }));
        all
    }

    /// Tells the process that counts the clients that none is left here.
    pub(crate) fn is_drained(&self) {
        if let Some(heir) = &*self.heir() {
            heir.drained();
        }
    }

    /// Has this process count the clients itself.
    pub(crate) fn take_back(&self) {
        *self.heir.write() = None;
        self.tell_news();
    }

    /// Counts a connection of an older process. Whoever enters it holds [`Live::heir`].
    pub(crate) fn adopt(&self, connection: u64, adopted: Adopted) {
        self.adopted.lock().insert(connection, adopted);
    }

    /// A connection of an older process has reached its upstream. `lease` counts it there, if the
    /// group is known.
    pub(crate) fn adopted_dialed(
        &self,
        connection: u64,
        upstream: SocketAddr,
        lease: impl FnOnce(&str) -> Option<Lease>,
    ) {
        let heir = self.heir();
        if let Some(adopted) = self.adopted.lock().get_mut(&connection) {
            adopted.upstream = lease(&adopted.elsewhere.group);
            if let Some(heir) = &*heir {
                heir.dialed(connection, upstream);
            }
        }
    }

    /// A connection of an older process has ended.
    pub(crate) fn release(&self, connection: u64) {
        let heir = self.heir();
        let released = self.adopted.lock().remove(&connection);
        if released.is_some()
            && let Some(heir) = &*heir
        {
            heir.ended(connection);
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
    pub fn lapsed(&self, running: &Running, trust_changed: bool, now: UnixTime) -> Lapsed {
        let entries: Vec<Arc<Entry>> = self
            .shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect();
        let verify_at = trust_changed.then_some(now);
        let here = entries
            .iter()
            .filter(|entry| !entry.holds(running, verify_at))
            .map(|entry| Ending::Here(entry.lapsed.clone()));
        let mut connections: Vec<Ending> = here.collect();
        connections.extend(self.lapsed_elsewhere(running, verify_at).connections);
        Lapsed { connections }
    }

    /// Finds those of older processes, for which this one decides: they may not be able to read what
    /// it reads.
    pub(crate) fn lapsed_elsewhere(
        &self,
        running: &Running,
        verify_at: Option<UnixTime>,
    ) -> Lapsed {
        let adopted: Vec<Arc<Elsewhere>> = {
            let adopted = self.adopted.lock();
            let elsewhere = adopted.values().map(|one| Arc::clone(&one.elsewhere));
            elsewhere.collect()
        };
        let lapsed = adopted
            .into_iter()
            .filter(|elsewhere| elsewhere.lapses(running, verify_at));
        Lapsed {
            connections: lapsed.map(Ending::Elsewhere).collect(),
        }
    }

    /// Ends a connection of an older process if its permit has lapsed.
    pub(crate) fn cut_lapsed(&self, connection: u64, running: &Running) {
        let elsewhere = self.elsewhere(connection);
        if let Some(elsewhere) = elsewhere
            && elsewhere.lapses(running, Some(UnixTime::now()))
        {
            elsewhere.end();
        }
    }

    /// Ends a connection, whichever process it is in, as the process that follows wants it.
    pub(crate) fn cut(&self, connection: u64) {
        // First here: one that enters meanwhile is seen in the one place or the other.
        self.heir().iter().for_each(|heir| heir.cut(connection));
        self.cut_entered(connection);
    }

    /// The same, of one that has entered.
    pub(crate) fn cut_entered(&self, connection: u64) {
        if let Some(entry) = self.shard(connection).lock().get(&connection) {
            entry.lapsed.cancel();
        } else if let Some(elsewhere) = self.elsewhere(connection) {
            elsewhere.end();
        }
    }

    fn elsewhere(&self, connection: u64) -> Option<Arc<Elsewhere>> {
        let adopted = self.adopted.lock();
        let adopted = adopted.get(&connection)?;
        Some(Arc::clone(&adopted.elsewhere))
    }

    fn shard(&self, connection: u64) -> &Mutex<HashMap<u64, Arc<Entry>>> {
        &self.shards[usize::try_from(connection).unwrap_or(0) % SHARDS]
    }
}

impl Entry {
    fn holds(&self, running: &Running, verify_at: Option<UnixTime>) -> bool {
        let permit = &self.permit;
        let (identity, destination) = (permit.identity(), permit.destination());
        is_trusted(&self.chain, running, verify_at)
            && is_granted(identity, destination, &permit.group().name, running)
    }
}

impl Holder {
    /// The permit that is held.
    pub fn permit(&self) -> &Permit {
        &self.entry.permit
    }

    /// Whether the permit holds under the revision that is in force now.
    pub fn still_holds(&self, running: &Running, now: UnixTime) -> bool {
        running.generation() == self.entry.permit.generation()
            || self.entry.holds(running, Some(now))
    }

    /// The connection has reached its upstream.
    pub fn dialed(&self, upstream: SocketAddr) {
        let heir = self.live.heir();
        // It is dialed once.
        self.entry.upstream.set(upstream).ok();
        if let Some(heir) = &*heir {
            heir.dialed(self.connection, upstream);
        }
    }

    /// Waits until the permit has lapsed and the connection must end. Cancel safe.
    pub async fn lapsed(&self) {
        self.entry.lapsed.cancelled().await;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let heir = self.live.heir();
        self.live
            .shard(self.connection)
            .lock()
            .remove(&self.connection);
        if let Some(heir) = &*heir {
            heir.ended(self.connection);
        }
    }
}
