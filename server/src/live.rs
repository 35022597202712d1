//! The connections that hold a permit, so that one that lapses can be ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::policy::OnRevoke;
use crate::running::{Permit, Running};

/// Over how long connections that are cut off together are spread.
pub const CUT_SPREAD: Duration = Duration::from_secs(1);
/// How many locks the table is spread over; each is held for one insertion or removal.
const SHARDS: usize = 16;

/// The table of connections that hold a permit.
#[derive(Debug, Default)]
pub struct Live {
    shards: [Mutex<HashMap<u64, Arc<Entry>>>; SHARDS],
}

/// What is needed to ask again whether a connection may be.
#[derive(Debug)]
struct Entry {
    permit: Permit,
    chain: Vec<CertificateDer<'static>>,
    lapsed: CancellationToken,
}

/// A connection's line in the table, taken out on drop.
#[derive(Debug)]
pub struct Holder {
    live: Arc<Live>,
    connection: u64,
    entry: Arc<Entry>,
}

impl Live {
    /// Enters a connection.
    ///
    /// Whoever enters asks [`Holder::still_holds`] afterwards: a revision that came into force
    /// between the permit and the entry did not see it.
    pub fn enter(
        self: &Arc<Self>,
        connection: u64,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
    ) -> Holder {
        let entry = Arc::new(Entry {
            permit,
            chain,
            lapsed: CancellationToken::new(),
        });
        self.shard(connection)
            .lock()
            .insert(connection, Arc::clone(&entry));
        Holder {
            live: Arc::clone(self),
            connection,
            entry,
        }
    }

    /// How many connections hold a permit.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no connection holds a permit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let tokens = entries
            .iter()
            .filter(|entry| !entry.holds(running, trust_changed.then_some(now)))
            .map(|entry| entry.lapsed.clone())
            .collect();
        Lapsed { tokens }
    }

    fn shard(&self, connection: u64) -> &Mutex<HashMap<u64, Arc<Entry>>> {
        &self.shards[usize::try_from(connection).unwrap_or(0) % SHARDS]
    }
}

impl Entry {
    fn holds(&self, running: &Running, verify_at: Option<UnixTime>) -> bool {
        if let (Some(now), [leaf, intermediates @ ..]) = (verify_at, self.chain.as_slice())
            && running
                .tls()
                .trust()
                .verify(leaf, intermediates, now)
                .is_err()
        {
            return false;
        }
        let permit = &self.permit;
        running
            .authorize(permit.identity().clone(), permit.destination())
            .is_ok_and(|again| again.group().name == permit.group().name)
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

    /// Waits until the permit has lapsed and the connection must end. Cancel safe.
    pub async fn lapsed(&self) {
        self.entry.lapsed.cancelled().await;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.live
            .shard(self.connection)
            .lock()
            .remove(&self.connection);
    }
}

/// Connections whose permit has lapsed.
#[derive(Debug)]
pub struct Lapsed {
    tokens: Vec<CancellationToken>,
}

impl Lapsed {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Ends them as the policy wants it, which may take until the drain's deadline.
    pub async fn end(self, how: OnRevoke, drain: Duration) {
        let begin = Instant::now();
        let (wait, spread) = match how {
            OnRevoke::Keep => return,
            OnRevoke::Cut => (Duration::ZERO, CUT_SPREAD),
            OnRevoke::Drain => (drain, CUT_SPREAD),
        };
        let step = spread / u32::try_from(self.tokens.len().max(1)).unwrap_or(u32::MAX);
        for (index, token) in self.tokens.iter().enumerate() {
            let offset = step.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            tokio::time::sleep_until(begin + wait + offset).await;
            token.cancel();
        }
    }
}
