//! A client's places: how many connections it has open, and which ones wait for one of those to end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use dashmap::DashMap;
use tokio::{sync::oneshot, time::Instant};

use crate::limit::{Limit, Name};

/// The places of all clients that have a connection. Clones are the same places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    clients: DashMap<Name, Client>,
    /// Tells those apart that began to wait in the same moment.
    numbers: AtomicU64,
}

/// One client's. It is in the table as long as it has a connection that is open.
#[derive(Debug, Default)]
struct Client {
    open: u32,
    waiting: BTreeMap<Turn, Waiter>,
}

/// Where a connection stands among those that wait: since when, and a number.
type Turn = (Instant, u64);

#[derive(Debug)]
struct Waiter {
    limit: Limit,
    place: oneshot::Sender<Admission>,
}

/// What a client that comes gets.
#[derive(Debug)]
pub enum Place {
    /// A connection of it is counted.
    Free(Admission),
    /// All that it may have are open. It stands in line.
    Taken(Waiting),
}

/// One counted connection of a client. Dropping it hands the place to the client's connection that has waited
/// longest, if one waits.
#[derive(Debug)]
#[must_use = "dropping an admission returns it"]
pub struct Admission {
    places: Places,
    client: Name,
}

/// A connection of a client that has as many open as it may, in line for the next place: whoever came first gets it.
/// Dropping this leaves the line.
#[derive(Debug)]
#[must_use = "dropping it leaves the line"]
pub struct Waiting {
    places: Places,
    client: Name,
    turn: Turn,
    place: oneshot::Receiver<Admission>,
}

impl Places {
    /// Counts one more connection, unless those that are open and those that wait are as many as may be.
    pub(crate) fn claim(&self, client: &Name, limit: Limit) -> Option<Admission> {
        let mut entry = self.0.clients.entry(Arc::clone(client)).or_default();
        if !entry.has_room(limit) {
            return None;
        }
        entry.open += 1;
        drop(entry);
        Some(self.admission(client))
    }

    /// The same, or stands in line among those that came at another time, unless as many wait as may be open.
    pub(crate) fn claim_or_wait(
        &self,
        client: &Name,
        limit: Limit,
        since: Instant,
    ) -> Option<Place> {
        let mut entry = self.0.clients.entry(Arc::clone(client)).or_default();
        if entry.has_room(limit) {
            entry.open += 1;
            drop(entry);
            return Some(Place::Free(self.admission(client)));
        }
        let waiting = u32::try_from(entry.waiting.len()).unwrap_or(u32::MAX);
        if !limit.allows(waiting) {
            return None;
        }
        let (sender, place) = oneshot::channel();
        let turn = (since, self.0.numbers.fetch_add(1, Relaxed));
        let waiter = Waiter {
            limit,
            place: sender,
        };
        entry.waiting.insert(turn, waiter);
        drop(entry);
        Some(Place::Taken(Waiting {
            places: self.clone(),
            client: Arc::clone(client),
            turn,
            place,
        }))
    }

    /// Counts one more connection, whatever the limits say.
    pub(crate) fn adopt(&self, client: &Name) -> Admission {
        self.0.clients.entry(Arc::clone(client)).or_default().open += 1;
        self.admission(client)
    }

    /// How many connections a client has open.
    pub(crate) fn open(&self, client: &str) -> u32 {
        self.0.clients.get(client).map_or(0, |client| client.open)
    }

    /// How many connections of a client wait for a place.
    pub(crate) fn waiting(&self, client: &str) -> usize {
        let client = self.0.clients.get(client);
        client.map_or(0, |client| client.waiting.len())
    }

    /// How many clients have a connection open.
    pub(crate) fn clients(&self) -> usize {
        self.0.clients.len()
    }

    fn admission(&self, client: &Name) -> Admission {
        Admission {
            places: self.clone(),
            client: Arc::clone(client),
        }
    }

    /// Changes what there is of a client, and hands out the places that are free after it.
    fn change(&self, client: &Name, change: impl FnOnce(&mut Client)) {
        let mut next = Vec::new();
        self.0.clients.remove_if_mut(client, |_, entry| {
            change(entry);
            next = entry.next();
            entry.open == 0 && entry.waiting.is_empty()
        });
        for place in next {
            // One that has left in this moment drops the admission, which hands the place on. No lock is held.
            drop(place.send(self.admission(client)));
        }
    }
}

impl Client {
    /// Whether one more may come: nobody overtakes those who wait.
    fn has_room(&self, limit: Limit) -> bool {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        limit.allows(self.open.saturating_add(waiting))
    }

    /// Takes those out of the line who get a place now, and counts them.
    fn next(&mut self) -> Vec<oneshot::Sender<Admission>> {
        let mut next = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if first.get().place.is_closed() {
                first.remove();
            } else if first.get().limit.allows(self.open) {
                self.open += 1;
                next.push(first.remove().place);
            } else {
                break;
            }
        }
        next
    }
}

impl Admission {
    /// Who was admitted.
    pub fn client(&self) -> &Name {
        &self.client
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.places.change(&self.client, |client| client.open -= 1);
    }
}

impl Waiting {
    /// Waits for the place, which is given once. Cancel safe: the connection stays where it stands in line, and a
    /// place that it was given meanwhile is there the next time.
    pub async fn place(&mut self) -> Admission {
        let place = (&mut self.place).await;
        place.expect("whoever stands in line is given a place, once")
    }

    /// Takes note that the client's limit is another now.
    pub fn limit(&mut self, limit: Limit) {
        let turn = self.turn;
        self.places.change(&self.client, |client| {
            if let Some(waiter) = client.waiting.get_mut(&turn) {
                waiter.limit = limit;
            }
        });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let turn = self.turn;
        // A place that it was given returns with the field.
        self.places.change(&self.client, |client| {
            client.waiting.remove(&turn);
        });
    }
}

#[cfg(test)]
mod tests;
