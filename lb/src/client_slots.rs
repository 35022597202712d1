//! A client's connection slots: how many connections it has open, and which ones wait for one of those to end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use dashmap::DashMap;
use tokio::{sync::oneshot, time::Instant};

use crate::limit::{Limit, SharedName};

/// The slots of all clients that have a connection. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientSlots(Arc<SlotTable>);

#[derive(Debug, Default)]
struct SlotTable {
    clients: DashMap<SharedName, ClientEntry>,
    /// Tells those apart that began to wait in the same moment.
    numbers: AtomicU64,
}

/// One client's. It is in the table as long as it has a connection that is open.
#[derive(Debug, Default)]
struct ClientEntry {
    open: u32,
    waiting: BTreeMap<QueuePosition, SlotWaiter>,
}

/// A connection's position among those that wait: since when, and a number.
type QueuePosition = (Instant, u64);

#[derive(Debug)]
struct SlotWaiter {
    limit: Limit,
    sender: oneshot::Sender<ClientSlot>,
}

/// What a client that comes gets.
#[derive(Debug)]
pub enum SlotOutcome {
    /// A connection of it is counted.
    Granted(ClientSlot),
    /// All that it may have are open. The connection waits in the queue.
    Queued(QueuedSlot),
}

/// One counted connection of a client. Dropping it hands the slot to the client's connection that has waited
/// longest, if one waits.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub struct ClientSlot {
    slots: ClientSlots,
    client: SharedName,
}

/// A connection of a client that has as many open as it may, in the queue for the next slot: the first that came gets it.
/// Dropping this leaves the queue.
#[derive(Debug)]
#[must_use = "dropping it leaves the queue"]
pub struct QueuedSlot {
    slots: ClientSlots,
    client: SharedName,
    position: QueuePosition,
    granted: oneshot::Receiver<ClientSlot>,
}

impl ClientSlots {
    /// Counts one more connection, unless those that are open and those that wait are as many as may be.
    pub(crate) fn claim(&self, client: &SharedName, limit: Limit) -> Option<ClientSlot> {
        let mut entry = self.0.clients.entry(Arc::clone(client)).or_default();
        if !entry.has_room(limit) {
            return None;
        }
        entry.open += 1;
        drop(entry);
        Some(self.slot(client))
    }

    /// The same, or queues it among those that came at another time, unless as many wait as may be open.
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
        let waiting = u32::try_from(entry.waiting.len()).unwrap_or(u32::MAX);
        if !limit.allows(waiting) {
            return None;
        }
        let (sender, place) = oneshot::channel();
        let turn = (since, self.0.numbers.fetch_add(1, Relaxed));
        let waiter = SlotWaiter { limit, sender };
        entry.waiting.insert(turn, waiter);
        drop(entry);
        Some(SlotOutcome::Queued(QueuedSlot {
            slots: self.clone(),
            client: Arc::clone(client),
            position: turn,
            granted: place,
        }))
    }

    /// Counts one more connection, whatever the limits say.
    pub(crate) fn claim_unlimited(&self, client: &SharedName) -> ClientSlot {
        self.0.clients.entry(Arc::clone(client)).or_default().open += 1;
        self.slot(client)
    }

    /// How many connections a client has open.
    pub(crate) fn open(&self, client: &str) -> u32 {
        self.0.clients.get(client).map_or(0, |client| client.open)
    }

    /// How many connections of a client wait for a slot.
    pub(crate) fn waiting(&self, client: &str) -> usize {
        let client = self.0.clients.get(client);
        client.map_or(0, |client| client.waiting.len())
    }

    /// How many clients have a connection open.
    pub(crate) fn clients(&self) -> usize {
        self.0.clients.len()
    }

    fn slot(&self, client: &SharedName) -> ClientSlot {
        ClientSlot {
            slots: self.clone(),
            client: Arc::clone(client),
        }
    }

    /// Changes what there is of a client, and hands out the slots that are free after it.
    fn update(&self, client: &SharedName, change: impl FnOnce(&mut ClientEntry)) {
        let mut next = Vec::new();
        self.0.clients.remove_if_mut(client, |_, entry| {
            change(entry);
            next = entry.take_granted();
            entry.open == 0 && entry.waiting.is_empty()
        });
        for place in next {
            // One that has left in this moment drops the slot, which hands it on. No lock is held.
            drop(place.send(self.slot(client)));
        }
    }
}

impl ClientEntry {
    /// Whether one more may come: nobody overtakes those who wait.
    fn has_room(&self, limit: Limit) -> bool {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        limit.allows(self.open.saturating_add(waiting))
    }

    /// Takes those out of the queue that get a slot now, and counts them.
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
    /// Who was admitted.
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
    /// Waits for the slot, which is granted once. Cancel safe: the connection keeps its position in the queue, and a
    /// slot that it was granted meanwhile is there the next time.
    pub async fn granted(&mut self) -> ClientSlot {
        let place = (&mut self.granted).await;
        place.expect("a queued connection is granted a slot, once")
    }

    /// Takes note that the client's limit is another now.
    pub fn set_limit(&mut self, limit: Limit) {
        let turn = self.position;
        self.slots.update(&self.client, |client| {
            if let Some(waiter) = client.waiting.get_mut(&turn) {
                waiter.limit = limit;
            }
        });
    }
}

impl Drop for QueuedSlot {
    fn drop(&mut self) {
        let turn = self.position;
        // A slot that it was granted returns with the field.
        self.slots.update(&self.client, |client| {
            client.waiting.remove(&turn);
        });
    }
}

#[cfg(test)]
mod tests;
