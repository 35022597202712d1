//! The gateway's part of a session ticket: the client's certificate, and the time of its proof.
//!
//! A ticket replaces a client's certificate, the proof that it has the key, and the gateway's
//! signature. It does not replace the policy: a process that opens a ticket authorizes its client
//! again.

use std::sync::Arc;
use std::time::Duration;

use rustls::Error;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls_pki_types::UnixTime;

use crate::identity::Fingerprint;

/// Lifetime of a ticket after the client proved that it has its certificate's key.
pub const LIFETIME: Duration = Duration::from_hours(1);

/// The keys that seal tickets. They are created in this process, never leave it, and are rotated
/// automatically.
#[derive(Debug, Clone)]
pub struct TicketKeys(Arc<dyn ProducesTickets>);

/// The gateway's own contents of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketContents {
    /// Time at which the client proved that it has the certificate's key.
    pub proven: UnixTime,
    /// The certificate that it presented then.
    pub certificate: Fingerprint,
}

impl TicketKeys {
    /// Creates keys.
    ///
    /// # Errors
    ///
    /// The system provides no random bytes.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Ticketer::new()?))
    }

    /// Seals a ticket with rustls' own session state.
    pub fn seal(&self, ticket: TicketContents, session: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(&ticket.encode(session))
    }

    /// Opens a ticket that these keys sealed. `None` for any other bytes.
    pub fn open(&self, sealed: &[u8]) -> Option<(TicketContents, Vec<u8>)> {
        TicketContents::decode(&self.0.decrypt(sealed)?)
    }
}

impl TicketContents {
    /// Returns the rest of the ticket's lifetime. `None` if it is over, or if the clock was set
    /// back to before the proof.
    pub fn left(self, now: UnixTime) -> Option<Duration> {
        let age = now.as_secs().checked_sub(self.proven.as_secs())?;
        LIFETIME
            .checked_sub(Duration::from_secs(age))
            .filter(|left| !left.is_zero())
    }

    fn encode(self, session: &[u8]) -> Vec<u8> {
        let mut bytes = self.proven.as_secs().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.certificate.to_bytes());
        bytes.extend_from_slice(session);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Self, Vec<u8>)> {
        let (&proven, bytes) = bytes.split_first_chunk()?;
        let (&certificate, session) = bytes.split_first_chunk()?;
        let proven = Duration::from_secs(u64::from_be_bytes(proven));
        let ticket = Self {
            proven: UnixTime::since_unix_epoch(proven),
            certificate: Fingerprint::from_bytes(certificate),
        };
        Some((ticket, session.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn ticket(proven: u64, certificate: &[u8]) -> TicketContents {
        TicketContents {
            proven: at(proven),
            certificate: Fingerprint::of(certificate),
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(proven: u64, certificate: Vec<u8>, session: Vec<u8>) {
            let (keys, ticket) = (TicketKeys::new().unwrap(), ticket(proven, &certificate));
            let mut sealed = keys.seal(ticket, &session).unwrap();
            prop_assert_eq!(keys.open(&sealed), Some((ticket, session)));
            prop_assert_eq!(TicketKeys::new().unwrap().open(&sealed), None);
            sealed[30] ^= 1;
            prop_assert_eq!(keys.open(&sealed), None);
        }

        #[test]
        fn bytes_are_a_ticket_or_none(bytes: Vec<u8>) {
            if let Some((ticket, session)) = TicketContents::decode(&bytes) {
                prop_assert_eq!(ticket.encode(&session), bytes);
            }
        }
    }

    #[test]
    fn a_ticket_is_good_for_an_hour_after_the_proof() {
        let ticket = ticket(10_000, &[]);
        let left = |now| ticket.left(at(now)).map(|left| left.as_secs());
        assert_eq!(left(10_000), Some(3600));
        assert_eq!(left(13_599), Some(1));
        assert_eq!(left(13_600), None);
        assert_eq!(left(9_999), None, "a clock that went back");
    }
}
