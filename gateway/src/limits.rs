//! Limits of the resources that a client may use before it is authenticated.
//!
//! A connection is *silent* until its `ClientHello` is whole: it costs a socket, a timer and some 3
//! KiB. Many of those are allowed. When there are too many, the oldest of the source that has most
//! gives way, so that clients which send nothing exclude no other client. Only a whole
//! `ClientHello` takes one of the far fewer slots of handshakes, which cost memory and computing,
//! and only a client that authenticated itself takes a slot of an open connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use host::memory_gauge::MemoryGauge;
use lb::{Claim, Counter};
use policy::{GatewayLimits, MemoryLimit};

use crate::quota::{count, limit};
use crate::rejection::Rejection;

mod descriptors;
mod fair_table;

pub use descriptors::possible_connections;

use descriptors::{EACH, for_clients};
use fair_table::{FairSlot, FairTable, TableBounds, TableFull};

/// Minimum age of a handshake before it gives way to one of a source that has fewer, when the
/// maximum of handshakes is reached: 1 second.
const GRACE: Duration = Duration::from_secs(1);
/// Number of silent connections that are ended together to make room, when the system has no
/// descriptor or memory left.
const RELIEF: usize = 8;

/// Counters of silent connections, handshakes in flight and open connections, with their limits.
#[derive(Debug)]
pub struct PreAuthLimits {
    silent: Arc<FairTable>,
    handshakes: Arc<FairTable>,
    connections: Arc<Counter>,
    /// The open connections of other processes, which `connections` contains.
    remote: Arc<Counter>,
    /// Number of descriptors that clients may use.
    descriptors: AtomicUsize,
    memory: MemoryGauge,
}

/// The slot of a connection whose `ClientHello` is not whole; returned on drop.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub struct SilentSlot(FairSlot);

/// The slot of a handshake; returned on drop, when the handshake is over.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub struct HandshakeSlot(FairSlot);

/// The slot of an open connection; returned on drop.
#[derive(Debug)]
#[must_use = "dropping a slot returns it"]
pub struct ConnectionSlot {
    _connection: Claim,
    _remote: Option<Claim>,
}

impl SilentSlot {
    /// Waits until the connection has to give way to another. Cancel safe.
    pub async fn evicted(&self) {
        self.0.evicted().await;
    }
}

impl HandshakeSlot {
    /// Waits until the handshake has to give way to another. Cancel safe.
    pub async fn evicted(&self) {
        self.0.evicted().await;
    }
}

impl Default for PreAuthLimits {
    fn default() -> Self {
        Self {
            silent: Arc::default(),
            handshakes: Arc::default(),
            connections: Arc::new(Counter::new()),
            remote: Arc::new(Counter::new()),
            descriptors: AtomicUsize::new(usize::MAX),
            memory: MemoryGauge::default(),
        }
    }
}

impl PreAuthLimits {
    /// Sets the number of descriptors that the process may have; `None` is without limit.
    pub fn set_descriptors(&self, limit: Option<u64>) {
        let usable = limit.map(for_clients);
        let usable = usable.and_then(|usable| usize::try_from(usable).ok());
        self.descriptors
            .store(usable.unwrap_or(usize::MAX), Relaxed);
    }

    /// Takes a [`SilentSlot`] for a connection that has just arrived. Other silent connections give
    /// way to it.
    ///
    /// # Errors
    ///
    /// The gateway has all connections that the policy allows, or no descriptor or memory is left.
    pub fn take_silent_slot(
        &self,
        source: IpAddr,
        limits: &GatewayLimits,
        now: Instant,
    ) -> Result<SilentSlot, Rejection> {
        if !limit(limits.connections).allows(self.connections.open()) {
            return Err(Rejection::GatewayFull);
        }
        let free = self.free_descriptors();
        if free == 0 {
            return Err(Rejection::DescriptorsFull);
        }
        if self.is_memory_full(limits.memory, now) && !self.silent.evict() {
            return Err(Rejection::MemoryFull);
        }
        let most = count(limits.silent).min(free);
        Ok(SilentSlot(self.silent.enter(source, most, now)))
    }

    /// Takes a [`HandshakeSlot`] in exchange for the slot of a silent connection. Silent
    /// connections give way to it when descriptors or memory run out.
    ///
    /// # Errors
    ///
    /// All handshakes that the policy allows, in total or of this source, are in flight, or no
    /// memory is left.
    pub fn take_handshake_slot(
        &self,
        silent: SilentSlot,
        source: IpAddr,
        limits: &GatewayLimits,
        now: Instant,
    ) -> Result<HandshakeSlot, Rejection> {
        drop(silent);
        if self.is_memory_full(limits.memory, now) && !self.evict_silent() {
            return Err(Rejection::MemoryFull);
        }
        let bounds = TableBounds {
            all: count(limits.handshakes),
            per_source: count(limits.handshakes_per_source),
            grace: GRACE,
        };
        let slot = self.handshakes.enter_within(source, &bounds, now);
        let slot = slot.map_err(|full| match full {
            TableFull::All => Rejection::HandshakesFull,
            TableFull::Source => Rejection::SourceHandshakesFull,
        })?;
        while self.silent.len() > self.free_descriptors() && self.silent.evict() {}
        Ok(HandshakeSlot(slot))
    }

    /// Takes a [`ConnectionSlot`] within `limits`.
    ///
    /// # Errors
    ///
    /// The gateway has all connections that the policy allows.
    pub fn take_connection_slot(
        &self,
        limits: &GatewayLimits,
    ) -> Result<ConnectionSlot, Rejection> {
        let connection = self.connections.claim(limit(limits.connections));
        Ok(ConnectionSlot {
            _connection: connection.ok_or(Rejection::GatewayFull)?,
            _remote: None,
        })
    }

    /// Takes a [`ConnectionSlot`] for a connection that another process has admitted, whatever the
    /// limits are. Returns `None` only if a counter would overflow.
    pub fn take_remote_slot(&self) -> Option<ConnectionSlot> {
        Some(ConnectionSlot {
            _connection: self.connections.claim(lb::Limit::Unlimited)?,
            _remote: Some(self.remote.claim(lb::Limit::Unlimited)?),
        })
    }

    /// Ends a few silent connections when the system has no descriptor or memory left. Returns true
    /// if there were any.
    pub fn evict_silent(&self) -> bool {
        (0..RELIEF).take_while(|_| self.silent.evict()).count() > 0
    }

    /// Returns the number of open connections, those of other processes included.
    pub fn connections(&self) -> u32 {
        self.connections.open()
    }

    /// Returns the number of handshakes in flight.
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Returns the number of connections whose `ClientHello` is not whole.
    pub fn silent(&self) -> usize {
        self.silent.len()
    }

    /// Returns true if there is no memory for one more client within `limit`. Counts the client.
    fn is_memory_full(&self, limit: MemoryLimit, now: Instant) -> bool {
        match limit {
            MemoryLimit::Group => self.memory.is_full(None, now),
            MemoryLimit::AtMost(bytes) => self.memory.is_full(Some(bytes), now),
            MemoryLimit::Unlimited => false,
        }
    }

    /// Returns the number of descriptors that are left for silent connections. A handshake is
    /// counted with the two descriptors of the connection that it may become.
    fn free_descriptors(&self) -> usize {
        let own = self.connections.open().saturating_sub(self.remote.open());
        let pairs = self.handshakes.len().saturating_add(own as usize);
        let usable = self.descriptors.load(Relaxed);
        usable.saturating_sub(pairs.saturating_mul(EACH))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::timeout;

    use super::*;
    use policy::Quota;

    const NO_LIMITS: GatewayLimits = GatewayLimits {
        connections: Quota::Unlimited,
        silent: Quota::Unlimited,
        handshakes: Quota::Unlimited,
        handshakes_per_source: Quota::Unlimited,
        memory: MemoryLimit::Unlimited,
    };

    fn quota(most: u32) -> Quota {
        Quota::AtMost(NonZeroU32::new(most).unwrap())
    }

    fn source(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn arrive(pre_auth: &PreAuthLimits, limits: &GatewayLimits) -> Result<SilentSlot, Rejection> {
        pre_auth.take_silent_slot(source(1), limits, Instant::now())
    }

    fn begin(pre_auth: &PreAuthLimits, limits: &GatewayLimits) -> Result<HandshakeSlot, Rejection> {
        let silent = arrive(pre_auth, limits)?;
        pre_auth.take_handshake_slot(silent, source(1), limits, Instant::now())
    }

    #[test]
    fn each_bound_refuses_with_its_own_reason_and_gives_back_what_it_took() {
        let pre_auth = PreAuthLimits::default();
        for (limits, reason) in [
            (
                GatewayLimits {
                    handshakes: quota(1),
                    ..NO_LIMITS
                },
                "handshakes_full",
            ),
            (
                GatewayLimits {
                    handshakes_per_source: quota(1),
                    ..NO_LIMITS
                },
                "source_handshakes_full",
            ),
        ] {
            let held = begin(&pre_auth, &limits).unwrap();
            assert_eq!(begin(&pre_auth, &limits).unwrap_err().reason(), reason);
            assert_eq!((pre_auth.silent(), pre_auth.handshakes()), (0, 1));
            drop(held);
            drop(begin(&pre_auth, &limits).unwrap());
        }
        let limits = GatewayLimits {
            connections: quota(1),
            ..NO_LIMITS
        };
        let early = arrive(&pre_auth, &limits).unwrap();
        let held = pre_auth.take_connection_slot(&limits).unwrap();
        assert_eq!(
            arrive(&pre_auth, &limits).unwrap_err().reason(),
            "gateway_full"
        );
        assert_eq!(
            pre_auth.take_connection_slot(&limits).unwrap_err().reason(),
            "gateway_full"
        );
        drop((early, held));
        drop(pre_auth.take_connection_slot(&limits).unwrap());
        assert_eq!((pre_auth.silent(), pre_auth.connections()), (0, 0));
    }

    #[test]
    fn silent_connections_give_way_before_descriptors_run_out() {
        let pre_auth = PreAuthLimits::default();
        // Half of so few are kept for what is not a client's.
        pre_auth.set_descriptors(Some(12));
        let silent: Vec<_> = (0..6)
            .map(|_| arrive(&pre_auth, &NO_LIMITS).unwrap())
            .collect();
        let seventh = arrive(&pre_auth, &NO_LIMITS).unwrap();
        assert_eq!(pre_auth.silent(), 6);
        let moment = Instant::now();
        let first = pre_auth
            .take_handshake_slot(seventh, source(1), &NO_LIMITS, moment)
            .unwrap();
        assert_eq!(pre_auth.silent(), 4, "it may need an upstream's socket");
        let opened = pre_auth.take_connection_slot(&NO_LIMITS).unwrap();
        let second = begin(&pre_auth, &NO_LIMITS).unwrap();
        assert_eq!(pre_auth.silent(), 0);
        let refused = arrive(&pre_auth, &NO_LIMITS).unwrap_err();
        assert_eq!(refused.reason(), "descriptors_full");
        drop((first, second, silent));
        assert!(arrive(&pre_auth, &NO_LIMITS).is_ok());
        drop(opened);
    }

    #[test]
    fn silent_connections_give_way_when_memory_is_full_and_then_clients_are_refused() {
        let pre_auth = PreAuthLimits::default();
        let full = GatewayLimits {
            memory: MemoryLimit::AtMost(std::num::NonZeroU64::MIN),
            ..NO_LIMITS
        };
        let refused = arrive(&pre_auth, &full).unwrap_err();
        assert_eq!(refused.reason(), "memory_full");
        let silent = [(); 9].map(|()| arrive(&pre_auth, &NO_LIMITS).unwrap());
        let next = arrive(&pre_auth, &full).unwrap();
        assert_eq!(pre_auth.silent(), 9, "one went for one that came");
        let now = Instant::now();
        let held = pre_auth
            .take_handshake_slot(next, source(1), &full, now)
            .unwrap();
        assert_eq!(pre_auth.silent(), 0, "a handshake takes more");
        let last = arrive(&pre_auth, &NO_LIMITS).unwrap();
        let refused = pre_auth
            .take_handshake_slot(last, source(1), &full, now)
            .unwrap_err();
        assert_eq!(refused.reason(), "memory_full");
        drop((silent, held));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_to_give_way_is_told_and_nobody_else() {
        let pre_auth = PreAuthLimits::default();
        let held = [(); 2].map(|()| begin(&pre_auth, &NO_LIMITS).unwrap());
        assert_eq!(pre_auth.handshakes(), 2);
        let silent = arrive(&pre_auth, &NO_LIMITS).unwrap();
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, silent.evicted()).await.is_err());
        assert!(pre_auth.evict_silent());
        assert!(timeout(moment, silent.evicted()).await.is_ok());
        assert!(timeout(moment, held[0].evicted()).await.is_err());
        assert!(!pre_auth.evict_silent(), "there is none");
    }

    #[test]
    fn connections_of_other_processes_count_but_take_no_descriptors() {
        let pre_auth = PreAuthLimits::default();
        pre_auth.set_descriptors(Some(4));
        let _adopted: Vec<_> = (0..9)
            .map(|_| pre_auth.take_remote_slot().unwrap())
            .collect();
        assert_eq!(pre_auth.connections(), 9);
        assert!(begin(&pre_auth, &NO_LIMITS).is_ok());
    }
}
