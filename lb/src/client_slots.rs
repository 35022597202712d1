//! Connection slots of a client: its open connections, and those that wait for one of them to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use dashmap::DashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limit::{Limit, SharedName};

/// Slots of all clients that have a connection. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientSlots(Arc<SlotTable>);

#[derive(Debug, Default)]
struct SlotTable {
    clients: DashMap<SharedName, ClientEntry>,
    /// Tie breaker of connections that began to wait at the same moment.
    numbers: AtomicU64,
}

/// Connections of one client. The entry is in the table as long as one of them is open.
#[derive(Debug, Default)]
struct ClientEntry {
    open: u32,
    waiting: BTreeMap<QueuePosition, SlotWaiter>,
}

/// Position of a connection in the queue: the moment from which it waits, and a tie breaker.
type QueuePosition = (Instant, u64);

#[derive(Debug)]
struct SlotWaiter {
    limit: Limit,
    sender: oneshot::Sender<ClientSlot>,
}

/// Answer to a connection of a client that asks for a slot.
#[derive(Debug)]
pub enum SlotOutcome {
    /// The connection is counted.
    Granted(ClientSlot),
    /// The client has as many connections open as it may. The connection waits in the queue.
    Queued(QueuedSlot),
}

/// One counted connection of a client. Dropping it hands the slot to the connection of the client
/// that has waited longest, if one waits.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub struct ClientSlot {
    slots: ClientSlots,
    client: SharedName,
}

/// Place in the queue for the next slot, of a connection whose client has as many open as it may.
/// The connection that has waited longest gets the slot. Dropping this leaves the queue.
#[derive(Debug)]
#[must_use = "dropping it leaves the queue"]
pub struct QueuedSlot {
    slots: ClientSlots,
    client: SharedName,
    position: QueuePosition,
    granted: oneshot::Receiver<ClientSlot>,
}

impl ClientSlots {
    /// Counts one more connection. Returns `None` if the open and the waiting connections together
    /// reach the limit.
    pub(crate) fn claim(&self, client: &SharedName, limit: Limit) -> Option<ClientSlot> {
        let mut entry = self.0.clients.entry(Arc::clone(client)).or_default();
        if !entry.has_room(limit) {
            return None;
        }
        entry.open += 1;
        drop(entry);
        Some(self.slot(client))
    }

    /// As [`ClientSlots::claim`], but without room the connection is queued in the order of
    /// `since`. Returns `None` if as many wait ahead of it as may be open.
    pub(crate) fn claim_or_wait(
        &self,
        client: &SharedName,
        limit: Limit,
        since: Instant,
    ) -> Option<SlotOutcome> {
        let mut entry = self.0.clients.entry(Arc::clone(client)).or_default();
        if entry.has_room(limit) {
            entry.open += 1;
            drop(entry);
            return Some(SlotOutcome::Granted(self.slot(client)));
        }
        if !entry.may_queue(limit, since) {
            return None;
        }
        let (sender, granted) = oneshot::channel();
        let position = (since, self.0.numbers.fetch_add(1, Relaxed));
        let waiter = SlotWaiter { limit, sender };
        entry.waiting.insert(position, waiter);
        drop(entry);
        Some(SlotOutcome::Queued(QueuedSlot {
            slots: self.clone(),
            client: Arc::clone(client),
            position,
            granted,
        }))
    }

    /// Counts one more connection, regardless of limits.
    pub(crate) fn claim_unlimited(&self, client: &SharedName) -> ClientSlot {
        self.0.clients.entry(Arc::clone(client)).or_default().open += 1;
        self.slot(client)
    }

    /// Returns the number of open connections of a client.
    pub(crate) fn open(&self, client: &str) -> u32 {
        self.0.clients.get(client).map_or(0, |client| client.open)
    }

    /// Returns the number of connections of a client that wait for a slot.
    pub(crate) fn waiting(&self, client: &str) -> usize {
        let client = self.0.clients.get(client);
        client.map_or(0, |client| client.waiting.len())
    }

    /// Returns the number of clients that have a connection open.
    pub(crate) fn clients(&self) -> usize {
        self.0.clients.len()
    }

    fn slot(&self, client: &SharedName) -> ClientSlot {
        ClientSlot {
            slots: self.clone(),
            client: Arc::clone(client),
        }
    }

    /// Changes the entry of a client, and then hands out the slots that are free.
    fn update(&self, client: &SharedName, change: impl FnOnce(&mut ClientEntry)) {
        let mut next = Vec::new();
        self.0.clients.remove_if_mut(client, |_, entry| {
            change(entry);
            next = entry.take_granted();
            entry.open == 0 && entry.waiting.is_empty()
        });
        for sender in next {
            // A waiter that left at this moment drops the slot, which hands it on. No lock is held.
            drop(sender.send(self.slot(client)));
        }
    }
}

impl ClientEntry {
    /// Returns true if one more connection may be admitted. Those that wait count too, so that none
    /// of them is overtaken.
    fn has_room(&self, limit: Limit) -> bool {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        limit.allows(self.open.saturating_add(waiting))
    }

    /// Returns true if a connection that came at `since` may join the queue: fewer connections are
    /// ahead of it than may be open. Later ones do not keep out a connection that has waited in
    /// another process before.
    fn may_queue(&self, limit: Limit, since: Instant) -> bool {
        let allows = |ahead| limit.allows(u32::try_from(ahead).unwrap_or(u32::MAX));
        let last = self.waiting.last_key_value();
        allows(self.waiting.len())
            || last.is_some_and(|((last, _), _)| since < *last)
                && allows(self.waiting.range(..(since, 0)).count())
    }

    /// Takes the connections that get a slot now out of the queue, and counts them.
    fn take_granted(&mut self) -> Vec<oneshot::Sender<ClientSlot>> {
        let mut next = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if first.get().sender.is_closed() {
                first.remove();
            } else if first.get().limit.allows(self.open) {
                self.open += 1;
                next.push(first.remove().sender);
            } else {
                break;
            }
        }
        next
    }
}

impl ClientSlot {
    /// Returns the client that was admitted.
    pub fn client(&self) -> &SharedName {
        &self.client
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.slots.update(&self.client, |client| client.open -= 1);
    }
}

impl QueuedSlot {
    /// Waits for the slot, which is granted once. Cancel safe: the connection keeps its position in
    /// the queue, and a slot that was granted meanwhile is returned by the next call.
    ///
    /// # Panics
    ///
    /// When it is called again after it has returned the slot.
    pub async fn granted(&mut self) -> ClientSlot {
        let slot = (&mut self.granted).await;
        slot.expect("a queued connection is granted a slot, once")
    }

    /// Replaces the client's limit for this waiting connection.
    pub fn set_limit(&mut self, limit: Limit) {
        let position = self.position;
        self.slots.update(&self.client, |client| {
            if let Some(waiter) = client.waiting.get_mut(&position) {
                waiter.limit = limit;
            }
        });
    }
}

impl Drop for QueuedSlot {
    fn drop(&mut self) {
        let position = self.position;
        // A slot that was granted meanwhile returns with the field.
        self.slots.update(&self.client, |client| {
            client.waiting.remove(&position);
        });
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the times")]
mod tests;
