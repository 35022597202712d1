//! Limits of the connections of one client, open ones and over time.
#![expect(
    clippy::disallowed_methods,
    reason = "it has clients wait, for a time at most"
)]

use std::time::Duration;

use dashmap::DashMap;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::client_slots::{ClientSlot, ClientSlots, SlotOutcome};
use crate::clock::TokioClock;
use crate::config_error::LONGEST_TIME;
use crate::limit::{ClientLimits, Limit, Rate, SharedName};

type KeyedLimiter<C> = RateLimiter<
    SharedName,
    DefaultKeyedStateStore<SharedName>,
    C,
    NoOpMiddleware<<C as Clock>::Instant>,
>;

/// Decides for each client whether it may open a connection now.
///
/// Limits are passed with each call. Lowering one refuses new connections and cuts none, and the
/// counts outlive every change of policy. A client whose rate changes starts with the full new
/// rate.
///
/// Memory grows with the clients that are connected, and with those that connected since
/// [`Limiter::forget_idle`] was called last, never with all that ever connected.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use lb::{ClientDenied, ClientLimits, Limit, Limiter, SharedName};
///
/// # fn main() -> Result<(), ClientDenied> {
/// let limiter: Limiter = Limiter::default();
/// let client: SharedName = "billing".into();
/// let limits = ClientLimits { connections: NonZeroU32::MIN.into(), ..ClientLimits::default() };
/// let slot = limiter.admit(&client, &limits)?;
/// let denied = limiter.admit(&client, &limits).unwrap_err();
/// assert_eq!(denied, ClientDenied::ClientConnections { limit: limits.connections });
/// drop(slot);
/// limiter.admit(&client, &limits)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Limiter<C: Clock = TokioClock> {
    clock: C,
    slots: ClientSlots,
    // Few rates exist, since they are from the policy: one governor each, keyed by client.
    rates: DashMap<Rate, KeyedLimiter<C>>,
}

/// Error of a client that may not open a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClientDenied {
    /// The client has as many connections open as it may.
    #[error("the client's limit of {limit} connections is reached")]
    ClientConnections {
        /// Limit of its open connections.
        limit: Limit,
    },
    /// The client opened connections faster than it may.
    #[error("the client opens connections faster than {rate}")]
    ClientRate {
        /// Limit of the rate of its new connections.
        rate: Rate,
    },
}

impl<C: Clock + Clone> Limiter<C> {
    /// Makes a limiter without any client.
    pub fn new(clock: C) -> Self {
        Self {
            clock,
            slots: ClientSlots::default(),
            rates: DashMap::new(),
        }
    }

    /// Counts one more connection of `client`, if its limits allow it.
    ///
    /// The number of connections is checked first, and a refusal by the rate gives the count back,
    /// so that a refused connection uses up neither.
    ///
    /// # Errors
    ///
    /// The limit that is reached: of the client's connections, or of their rate.
    pub fn admit(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        let limit = limits.connections;
        let slot = self.slots.claim(client, limit);
        self.check_rate(
            slot.ok_or(ClientDenied::ClientConnections { limit })?,
            limits,
        )
    }

    /// Counts one more connection of `client`. If the client has all connections open that it may,
    /// waits for up to `limits.wait` for the slot of one that ends; connections that wait get slots
    /// in the order in which they arrived.
    ///
    /// As many connections wait as may be open; further ones are refused at once. The limits are
    /// those of this call. Cancel safe: dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// As [`Limiter::admit`]. The rate is checked when there is a slot, and is not waited for.
    pub async fn admit_within(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        let slot = match self.admit_or_wait(client, limits, Instant::now())? {
            SlotOutcome::Granted(slot) => slot,
            SlotOutcome::Queued(mut waiting) => {
                let limit = limits.connections;
                let outcome = timeout(limits.wait, waiting.granted()).await;
                outcome.map_err(|_| ClientDenied::ClientConnections { limit })?
            }
        };
        self.check_rate(slot, limits)
    }

    /// Counts one more connection of `client`, or queues it in the order of `since` if its limits
    /// allow waiting. The rate is checked afterwards, by [`Limiter::check_rate`].
    ///
    /// # Errors
    ///
    /// As many are open as may be, and as many wait.
    pub fn admit_or_wait(
        &self,
        client: &SharedName,
        limits: &ClientLimits,
        since: Instant,
    ) -> Result<SlotOutcome, ClientDenied> {
        let limit = limits.connections;
        let outcome = if limits.wait.is_zero() {
            self.slots.claim(client, limit).map(SlotOutcome::Granted)
        } else {
            self.slots.claim_or_wait(client, limit, since)
        };
        outcome.ok_or(ClientDenied::ClientConnections { limit })
    }

    /// Checks the rate of a connection that is counted.
    ///
    /// # Errors
    ///
    /// The client opens connections faster than its limit; the connection is no longer counted.
    pub fn check_rate(
        &self,
        slot: ClientSlot,
        limits: &ClientLimits,
    ) -> Result<ClientSlot, ClientDenied> {
        match limits.rate {
            Some(rate) if !self.is_slow_enough(slot.client(), rate) => {
                Err(ClientDenied::ClientRate { rate })
            }
            Some(_) | None => Ok(slot),
        }
    }

    /// Counts a connection of `client` that another process has admitted, regardless of limits.
    pub fn admit_unlimited(&self, client: &SharedName) -> ClientSlot {
        self.slots.claim_unlimited(client)
    }

    /// Returns the number of open connections of `client`.
    pub fn open(&self, client: &str) -> u32 {
        self.slots.open(client)
    }

    /// Returns the number of connections of `client` that wait for an open one to end.
    pub fn waiting(&self, client: &str) -> usize {
        self.slots.waiting(client)
    }

    /// Returns the number of clients that have a connection open.
    pub fn clients(&self) -> usize {
        self.slots.clients()
    }

    /// Forgets every client whose rate is fully recovered, and every rate that no client uses.
    pub fn forget_idle(&self) {
        for keyed in &self.rates {
            keyed.retain_recent();
            keyed.shrink_to_fit();
        }
        // Emptiness is checked under the write lock, so no event is lost with its limiter.
        self.rates.retain(|_, keyed| !keyed.is_empty());
    }

    /// Returns the number of remembered rates, over all clients.
    pub fn remembered(&self) -> usize {
        self.rates.iter().map(|keyed| keyed.len()).sum()
    }

    fn is_slow_enough(&self, client: &SharedName, rate: Rate) -> bool {
        if let Some(keyed) = self.rates.get(&rate) {
            return keyed.check_key(client).is_ok();
        }
        let fresh = || {
            RateLimiter::new(
                quota(rate),
                DefaultKeyedStateStore::default(),
                self.clock.clone(),
            )
        };
        self.rates
            .entry(rate)
            .or_insert_with(fresh)
            .check_key(client)
            .is_ok()
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(TokioClock)
    }
}

/// Makes the quota of a rate. A longer time than [`LONGEST_TIME`], a hundred years, counts as that:
/// governor cannot count it, and no rate that slow matters.
fn quota(Rate { events, per }: Rate) -> Quota {
    let one = per.min(LONGEST_TIME) / events.get();
    Quota::with_period(one.max(Duration::from_nanos(1)))
        .expect("a nanosecond is not zero")
        .allow_burst(events)
}

#[cfg(test)]
mod small;
#[cfg(test)]
mod tests;
