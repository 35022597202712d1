//! State of one relay, and its verdict.

use std::io;
use std::time::Duration;

use peer::Downstream;

use super::end::{RelayEnd, RelayError};
use super::pump::Pump;
use super::sides::SidesGuard;
use super::traffic::Traffic;
use crate::ends::{RelayVerdict, SideState};
use crate::lease::Lease;

/// Most bytes moved at once from a client: eight full TLS records, which are opened where they are
/// read.
const FROM_CLIENT: usize = 128 * 1024;

/// Most bytes moved at once to a client: four full records. They are sealed from one buffer into
/// another, and both are to stay in a processor's cache.
pub(super) const TO_CLIENT: usize = 64 * 1024;

/// Kernel queues that were bounded.
#[derive(Debug, Default)]
pub(super) struct BoundedQueues {
    /// Queue of bytes to the client.
    pub(super) client: bool,
    /// Queue of bytes to the upstream.
    pub(super) upstream: bool,
    /// Queue of bytes from the upstream.
    pub(super) unread: bool,
}

/// A relay under way.
pub(super) struct RelayCourse<'a, D: Downstream> {
    pub(super) sides: SidesGuard<'a, D>,
    pub(super) up: Pump,
    pub(super) down: Pump,
    pub(super) client: SideState,
    pub(super) upstream: SideState,
    /// The first failure.
    first: Option<RelayError>,
    pub(super) nudged: bool,
    pub(super) bounded: BoundedQueues,
    pub(super) keepalive: Duration,
    pub(super) traffic: &'a Traffic,
    pub(super) lease: Option<&'a Lease>,
}

impl<'a, D: Downstream> RelayCourse<'a, D> {
    pub(super) fn new(
        sides: SidesGuard<'a, D>,
        keepalive: Duration,
        traffic: &'a Traffic,
        lease: Option<&'a Lease>,
    ) -> Self {
        Self {
            sides,
            up: Pump::new(FROM_CLIENT),
            down: Pump::new(TO_CLIENT),
            client: SideState::default(),
            upstream: SideState::default(),
            first: None,
            nudged: false,
            bounded: BoundedQueues::default(),
            keepalive,
            traffic,
            lease,
        }
    }

    /// Notes a failure; the first one is the reason for the end.
    pub(super) fn broke(&mut self, error: RelayError) {
        self.first.get_or_insert(error);
    }

    /// Ends the relay with a verdict.
    pub(super) fn conclude(&mut self, verdict: RelayVerdict) -> Result<RelayEnd, RelayError> {
        let finished = match verdict {
            RelayVerdict::Finished => RelayEnd::Both,
            RelayVerdict::ClientLeft => RelayEnd::ClientLeft,
            RelayVerdict::Idle => return Err(RelayError::Idle),
            RelayVerdict::HalfClosed => return Err(RelayError::HalfClosed),
            RelayVerdict::Broke => {
                let unsaid = || RelayError::Downstream(io::ErrorKind::BrokenPipe.into());
                return Err(self.first.take().unwrap_or_else(unsaid));
            }
        };
        if let (RelayEnd::Both, Some(lease)) = (finished, self.lease) {
            lease.finished();
        }
        self.sides.finished = Some(finished);
        Ok(finished)
    }
}
