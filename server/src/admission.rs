//! Places: what a client may take of the gateway before anybody knows who it is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use lb::{Claim, Counter};
use parking_lot::Mutex;

use crate::policy::{GatewayLimits, Quota};
use crate::rejection::Rejection;
use crate::settings::limit;

/// Counts open connections, handshakes in flight, and those of each source.
#[derive(Debug)]
pub struct Admission {
    connections: Arc<Counter>,
    handshakes: Arc<Counter>,
    sources: Arc<Sources>,
}

/// A connection's place in the gateway, returned on drop.
#[derive(Debug)]
#[must_use = "dropping a place returns it"]
pub struct Place {
    _connection: Claim,
}

/// A handshake's place, returned on drop, when the handshake is over.
#[derive(Debug)]
#[must_use = "dropping a place returns it"]
pub struct HandshakePlace {
    _handshake: Claim,
    _source: SourceClaim,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            connections: Arc::new(Counter::new()),
            handshakes: Arc::new(Counter::new()),
            sources: Arc::default(),
        }
    }
}

impl Admission {
    /// Takes the places of a connection that has just arrived, within `limits`.
    pub fn admit(
        &self,
        source: IpAddr,
        limits: &GatewayLimits,
    ) -> Result<(Place, HandshakePlace), Rejection> {
        let connection = self
            .connections
            .claim(limit(limits.connections))
            .ok_or(Rejection::GatewayFull)?;
        let handshake = self
            .handshakes
            .claim(limit(limits.handshakes))
            .ok_or(Rejection::HandshakesFull)?;
        let source = Sources::claim(&self.sources, network(source), limits.handshakes_per_source)
            .ok_or(Rejection::SourceHandshakesFull)?;
        let handshake = HandshakePlace {
            _handshake: handshake,
            _source: source,
        };
        Ok((
            Place {
                _connection: connection,
            },
            handshake,
        ))
    }

    /// Counts a connection that another process has let in, whatever the limits say.
    pub fn adopt(&self) -> Option<Place> {
        let connection = self.connections.claim(lb::Limit::Unlimited)?;
        Some(Place {
            _connection: connection,
        })
    }

    /// How many connections are open.
    pub fn connections(&self) -> u32 {
        self.connections.open()
    }

    /// How many handshakes are in flight.
    pub fn handshakes(&self) -> u32 {
        self.handshakes.open()
    }
}

/// Who shares a bound: one IPv4 address, or one IPv6 network of 64 bits, which is what a single
/// site has at its disposal (RFC 6177).
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Handshakes in flight by source. It never has more entries than there are handshakes.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<IpAddr, u32>>);

impl Sources {
    fn claim(this: &Arc<Self>, source: IpAddr, quota: Quota) -> Option<SourceClaim> {
        let mut counts = this.0.lock();
        let count = counts.get(&source).copied().unwrap_or(0);
        match quota {
            Quota::AtMost(most) if count >= most.get() => return None,
            Quota::AtMost(_) | Quota::Unlimited => {}
        }
        counts.insert(source, count + 1);
        Some(SourceClaim {
            sources: Arc::clone(this),
            source,
        })
    }
}

#[derive(Debug)]
struct SourceClaim {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Drop for SourceClaim {
    fn drop(&mut self) {
        let mut counts = self.sources.0.lock();
        match counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(counts.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limits(connections: u32, handshakes: u32, per_source: u32) -> GatewayLimits {
        let quota = |n| Quota::AtMost(NonZeroU32::new(n).unwrap());
        GatewayLimits {
            connections: quota(connections),
            handshakes: quota(handshakes),
            handshakes_per_source: quota(per_source),
        }
    }

    #[test]
    fn each_bound_refuses_with_its_own_reason_and_gives_back_what_it_took() {
        let admission = Admission::default();
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let limits = limits(4, 3, 2);

        let first = admission.admit(a, &limits).unwrap();
        let (_place, handshake) = admission.admit(a, &limits).unwrap();
        let refused = admission.admit(a, &limits).unwrap_err();
        assert!(matches!(refused, Rejection::SourceHandshakesFull));
        let _third = admission.admit(b, &limits).unwrap();
        assert!(matches!(
            admission.admit(b, &limits).unwrap_err(),
            Rejection::HandshakesFull
        ));

        drop(handshake);
        let (_fourth, handshake) = admission.admit(a, &limits).unwrap();
        drop(handshake);
        assert!(matches!(
            admission.admit(b, &limits).unwrap_err(),
            Rejection::GatewayFull
        ));

        drop(first);
        assert_eq!((admission.connections(), admission.handshakes()), (3, 1));
        assert_eq!(
            admission.sources.0.lock().len(),
            1,
            "a source without handshakes is forgotten"
        );
    }

    #[test]
    fn a_v6_site_is_one_source_and_a_mapped_v4_address_is_itself() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
