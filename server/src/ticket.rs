//! What a ticket says, beside what rustls puts into it: for whom it is good, where, and until when.
//!
//! A ticket spares a client its certificate, the proof that it has the key, and the gateway's signature. It
//! spares nobody the policy: whoever comes with a ticket is authorized anew (`verifier`).

use std::sync::Arc;
use std::time::Duration;

use rustls::Error;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls_pki_types::UnixTime;

use crate::trust::memory::{KEY_LENGTH, Key};

/// How long after a client proved that it has its certificate's key a ticket spares it to prove it again.
pub(crate) const LIFETIME: Duration = Duration::from_hours(1);

/// The keys of tickets. They are made in this process, never leave it, and change by themselves.
#[derive(Debug, Clone)]
pub(crate) struct TicketKeys(Arc<dyn ProducesTickets>);

/// For whom and where a ticket is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// When the client proved that it has the key.
    pub(crate) proven: UnixTime,
    /// The chain that it showed then.
    pub(crate) chain: Key,
    /// The group that it went to.
    pub(crate) group: Arc<str>,
}

impl TicketKeys {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self(Ticketer::new()?))
    }

    /// Seals a ticket with what rustls wants to find again.
    pub(crate) fn seal(&self, ticket: &Ticket, session: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(&ticket.encode(session)?)
    }

    /// Opens what was sealed here.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<(Ticket, Vec<u8>)> {
        Ticket::decode(&self.0.decrypt(sealed)?)
    }
}

impl Ticket {
    /// How long it is good from now on, if it is.
    pub(crate) fn left(&self, now: UnixTime) -> Option<Duration> {
        let age = now.as_secs().checked_sub(self.proven.as_secs())?;
        LIFETIME
            .checked_sub(Duration::from_secs(age))
            .filter(|left| !left.is_zero())
    }

    fn encode(&self, session: &[u8]) -> Option<Vec<u8>> {
        let group = self.group.as_bytes();
        let mut bytes = self.proven.as_secs().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.chain.to_bytes());
        bytes.extend_from_slice(&u16::try_from(group.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(group);
        bytes.extend_from_slice(session);
        Some(bytes)
    }

    fn decode(bytes: &[u8]) -> Option<(Self, Vec<u8>)> {
        let (&proven, bytes) = bytes.split_first_chunk()?;
        let (&chain, bytes) = bytes.split_first_chunk::<KEY_LENGTH>()?;
        let (&length, bytes) = bytes.split_first_chunk()?;
        let (group, session) = bytes.split_at_checked(usize::from(u16::from_be_bytes(length)))?;
        let proven = Duration::from_secs(u64::from_be_bytes(proven));
        let ticket = Self {
            proven: UnixTime::since_unix_epoch(proven),
            chain: Key::from_bytes(chain),
            group: std::str::from_utf8(group).ok()?.into(),
        };
        Some((ticket, session.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::CertificateDer;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn ticket(proven: u64, chain: Vec<u8>, group: &str) -> Ticket {
        Ticket {
            proven: at(proven),
            chain: Key::of(&CertificateDer::from(chain), &[]),
            group: group.into(),
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(proven: u64, chain: Vec<u8>, group: String, session: Vec<u8>) {
            let (keys, ticket) = (TicketKeys::new().unwrap(), ticket(proven, chain, &group));
            let mut sealed = keys.seal(&ticket, &session).unwrap();
            prop_assert_eq!(keys.open(&sealed), Some((ticket, session)));
            prop_assert_eq!(TicketKeys::new().unwrap().open(&sealed), None);
            sealed[30] ^= 1;
            prop_assert_eq!(keys.open(&sealed), None);
        }

        #[test]
        fn bytes_are_a_ticket_or_none(bytes: Vec<u8>) {
            if let Some((ticket, session)) = Ticket::decode(&bytes) {
                prop_assert_eq!(ticket.encode(&session), Some(bytes));
            }
        }
    }

    #[test]
    fn a_ticket_is_good_for_an_hour_after_the_proof() {
        let ticket = ticket(10_000, vec![], "db");
        let left = |now| ticket.left(at(now)).map(|left| left.as_secs());
        assert_eq!(left(10_000), Some(3600));
        assert_eq!(left(13_599), Some(1));
        assert_eq!(left(13_600), None);
        assert_eq!(left(9_999), None, "a clock that went back");
    }
}
