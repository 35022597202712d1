//! How many connections one client may have, and how often it may open one.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use thiserror::Error;

use crate::{
    clock::TokioClock,
    config_error::LONGEST,
    limit::{ClientLimits, Limit, Name, Rate},
};

type Open = Arc<DashMap<Name, u32>>;
type Keyed<C> =
    RateLimiter<Name, DefaultKeyedStateStore<Name>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Asks for each client whether it may come now.
///
/// Limits come with each call. Lowering one refuses new connections and cuts none, and the counts
/// outlive every change of policy. A client whose rate changes starts the new rate afresh.
///
/// Memory grows with the clients that are connected, and with those that came since
/// [`Limiter::forget_idle`] was called last, never with all that ever came.
#[derive(Debug)]
pub struct Limiter<C: Clock = TokioClock> {
    clock: C,
    open: Open,
    // Few rates exist, since they come from the policy: one governor each, keyed by client.
    rates: DashMap<Rate, Keyed<C>>,
}

/// Why a client may not come now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Denied {
    /// It has as many connections open as it may.
    #[error("the client has all of its {limit} connections open")]
    ClientConnections {
        /// How many it may have.
        limit: Limit,
    },
    /// It opened connections faster than it may.
    #[error("the client opens connections faster than {rate}")]
    ClientRate {
        /// How fast it may.
        rate: Rate,
    },
}

impl<C: Clock + Clone> Limiter<C> {
    /// A limiter that knows no client yet.
    pub fn new(clock: C) -> Self {
        Self {
            clock,
            open: Open::default(),
            rates: DashMap::new(),
        }
    }

    /// Counts one more connection of `client`, if its limits allow it.
    ///
    /// The number of connections is asked first, and a refusal by the rate gives the count back, so
    /// that a refused connection uses up neither.
    pub fn admit(&self, client: &Name, limits: &ClientLimits) -> Result<Admission, Denied> {
        let admission = self.count(client, limits.connections)?;
        match limits.rate {
            Some(rate) if !self.in_time(client, rate) => Err(Denied::ClientRate { rate }),
            Some(_) | None => Ok(admission),
        }
    }

    /// Counts a connection of `client` that another process has admitted, whatever the limits say.
    pub fn adopt(&self, client: &Name) -> Admission {
        *self.open.entry(Arc::clone(client)).or_default() += 1;
        Admission {
            open: Arc::clone(&self.open),
            client: Arc::clone(client),
        }
    }

    /// How many connections `client` has open.
    pub fn open(&self, client: &str) -> u32 {
        self.open.get(client).map_or(0, |open| *open)
    }

    /// How many clients have a connection open.
    pub fn clients(&self) -> usize {
        self.open.len()
    }

    /// Forgets every client whose rate is fully recovered, and every rate that nobody uses.
    pub fn forget_idle(&self) {
        for keyed in &self.rates {
            keyed.retain_recent();
            keyed.shrink_to_fit();
        }
        // Emptiness is asked under the write lock, so no event is lost with its limiter.
        self.rates.retain(|_, keyed| !keyed.is_empty());
    }

    /// How many rates of clients are remembered.
    pub fn remembered(&self) -> usize {
        self.rates.iter().map(|keyed| keyed.len()).sum()
    }

    fn count(&self, client: &Name, limit: Limit) -> Result<Admission, Denied> {
        let mut open = self.open.entry(Arc::clone(client)).or_default();
        if !limit.allows(*open) {
            return Err(Denied::ClientConnections { limit });
        }
        *open += 1;
        drop(open);
        Ok(Admission {
            open: Arc::clone(&self.open),
            client: Arc::clone(client),
        })
    }

    fn in_time(&self, client: &Name, rate: Rate) -> bool {
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

/// A rate slower than any that matters counts as one event in a hundred years: a longer time is none that
/// governor can count.
fn quota(Rate { events, per }: Rate) -> Quota {
    let one = per.min(LONGEST) / events.get();
    Quota::with_period(one.max(Duration::from_nanos(1)))
        .expect("a nanosecond is not zero")
        .allow_burst(events)
}

/// One counted connection of a client, returned on drop.
#[derive(Debug)]
#[must_use = "dropping an admission returns it"]
pub struct Admission {
    open: Open,
    client: Name,
}

impl Admission {
    /// Who was admitted.
    pub fn client(&self) -> &Name {
        &self.client
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.open.remove_if_mut(&self.client, |_, open| {
            *open -= 1;
            *open == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, thread};

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn at_most(n: u32) -> ClientLimits {
        ClientLimits {
            connections: Limit::AtMost(number(n)),
            rate: None,
        }
    }

    fn per_second(n: u32) -> ClientLimits {
        ClientLimits {
            connections: Limit::Unlimited,
            rate: Some(Rate::per_second(number(n))),
        }
    }

    fn limiter() -> (Limiter<FakeRelativeClock>, FakeRelativeClock, Name) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(clock.clone()), clock, "billing".into())
    }

    #[test]
    fn a_client_may_have_its_limit_open_and_no_more() {
        let (limiter, _, client) = limiter();
        let first = limiter.admit(&client, &at_most(2)).unwrap();
        let _second = limiter.admit(&client, &at_most(2)).unwrap();
        let limit = at_most(2).connections;
        assert_eq!(
            limiter.admit(&client, &at_most(2)).unwrap_err(),
            Denied::ClientConnections { limit }
        );
        drop(first);
        assert!(
            limiter.admit(&client, &at_most(2)).is_ok(),
            "a returned connection is free again"
        );
        assert_eq!(limiter.open("billing"), 1);
    }

    #[test]
    fn one_client_cannot_use_up_what_another_may() {
        let (limiter, _, client) = limiter();
        let _held = limiter.admit(&client, &at_most(1)).unwrap();
        assert!(limiter.admit(&"reports".into(), &at_most(1)).is_ok());
    }

    #[test]
    fn lowering_a_limit_refuses_new_connections_and_cuts_none() {
        let (limiter, _, client) = limiter();
        let held: Vec<_> = (0..3)
            .map(|_| limiter.admit(&client, &at_most(3)).unwrap())
            .collect();
        assert!(limiter.admit(&client, &at_most(1)).is_err());
        assert_eq!(limiter.open("billing"), 3);
        drop(held);
        assert_eq!(
            (limiter.open("billing"), limiter.clients()),
            (0, 0),
            "nothing is remembered"
        );
    }

    #[test]
    fn an_adopted_connection_counts_beyond_the_limit_and_towards_it() {
        let (limiter, _, client) = limiter();
        let adopted = [limiter.adopt(&client), limiter.adopt(&client)];
        assert!(limiter.admit(&client, &at_most(2)).is_err());
        let _beyond = limiter.adopt(&client);
        drop(adopted);
        assert!(limiter.admit(&client, &at_most(2)).is_ok());
        assert_eq!(limiter.open("billing"), 1);
    }

    #[test]
    fn a_client_may_come_as_often_as_its_rate_and_again_later() {
        let (limiter, clock, client) = limiter();
        let come = || limiter.admit(&client, &per_second(5)).map(drop);
        assert!((0..5).all(|_| come().is_ok()), "a burst of five");
        let rate = Rate::per_second(number(5));
        assert_eq!(come(), Err(Denied::ClientRate { rate }));
        clock.advance(Duration::from_millis(200));
        assert!(
            come().is_ok(),
            "one fifth of a second later there is room for one"
        );
        assert!(come().is_err(), "and only one");
        clock.advance(Duration::from_secs(10));
        assert!(
            (0..5).all(|_| come().is_ok()) && come().is_err(),
            "a pause never saves up more"
        );
    }

    #[test]
    fn a_refusal_by_rate_gives_the_connection_back() {
        let (limiter, _, client) = limiter();
        let limits = ClientLimits {
            connections: Limit::AtMost(number(2)),
            ..per_second(1)
        };
        let _held = limiter.admit(&client, &limits).unwrap();
        assert!(matches!(
            limiter.admit(&client, &limits),
            Err(Denied::ClientRate { .. })
        ));
        assert_eq!(limiter.open("billing"), 1);
    }

    #[test]
    fn a_refusal_by_count_does_not_use_up_the_rate() {
        let (limiter, _, client) = limiter();
        let limits = ClientLimits {
            connections: Limit::AtMost(number(1)),
            ..per_second(2)
        };
        let held = limiter.admit(&client, &limits).unwrap();
        assert!(matches!(
            limiter.admit(&client, &limits),
            Err(Denied::ClientConnections { .. })
        ));
        drop(held);
        assert!(
            limiter.admit(&client, &limits).is_ok(),
            "the second event was still there"
        );
    }

    #[test]
    fn idle_clients_and_unused_rates_are_forgotten_but_not_recent_ones() {
        let (limiter, clock, client) = limiter();
        drop(limiter.admit(&client, &per_second(1)).unwrap());
        limiter.forget_idle();
        assert!(
            limiter.admit(&client, &per_second(1)).is_err(),
            "forgetting forgives nobody"
        );
        clock.advance(Duration::from_mins(1));
        drop(limiter.admit(&"reports".into(), &per_second(1)).unwrap());
        assert_eq!(limiter.remembered(), 2);
        limiter.forget_idle();
        assert_eq!(limiter.remembered(), 1);
        clock.advance(Duration::from_mins(1));
        limiter.forget_idle();
        assert_eq!((limiter.remembered(), limiter.rates.len()), (0, 0));
    }

    #[test]
    fn a_panic_returns_the_admission() {
        let limiter = Limiter::default();
        let client: Name = "billing".into();
        let panicked = thread::scope(|scope| {
            let connection = scope.spawn(|| {
                let _admission = limiter.admit(&client, &at_most(1)).unwrap();
                panic!("a bug in one connection");
            });
            connection.join()
        });
        assert!(panicked.is_err());
        assert_eq!((limiter.open("billing"), limiter.clients()), (0, 0));
        assert!(limiter.admit(&client, &at_most(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn rates_go_by_tokios_clock() {
        let limiter = Limiter::default();
        let client: Name = "billing".into();
        let come = || limiter.admit(&client, &per_second(1)).is_ok();
        assert!(come() && !come());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(!come(), "no real time counts");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(come());
    }

    #[test]
    fn every_rate_is_counted_however_slow_or_fast() {
        let (limiter, _, client) = limiter();
        for events in [1, u32::MAX] {
            for per in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                let limits = ClientLimits {
                    connections: Limit::Unlimited,
                    rate: Some(Rate::new(number(events), per)),
                };
                assert!(limiter.admit(&client, &limits).is_ok());
            }
        }
    }

    #[test]
    fn racing_clients_never_exceed_their_limit_and_leave_nothing_behind() {
        let limiter = Limiter::default();
        let names: [Name; 2] = ["billing".into(), "reports".into()];
        let come_and_go = || {
            for client in names.iter().cycle().take(20_000) {
                let admission = limiter.admit(client, &at_most(2));
                assert!(limiter.open(client) <= 2);
                drop(admission);
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(come_and_go))));
        assert_eq!(limiter.clients(), 0);
    }
}
