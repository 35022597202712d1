//! Connections whose permit was revoked, and their end.

use std::sync::Arc;
use std::time::Duration;

use policy::OnRevoke;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::remote::RemoteDetails;
use crate::expiry::END_SPREAD;

/// Connections whose permit was revoked, as `ConnectionTable::revoked` finds them.
#[derive(Debug)]
pub struct RevokedConnections {
    pub(super) connections: Vec<EndSignal>,
}

/// The means to end one connection: its token in this process, or a request to an older process by
/// [`RemoteDetails`].
#[derive(Debug)]
pub(super) enum EndSignal {
    Local(CancellationToken),
    Remote(Arc<RemoteDetails>),
}

impl EndSignal {
    fn end(&self) {
        match self {
            Self::Local(token) => token.cancel(),
            Self::Remote(details) => details.end(),
        }
    }
}

impl RevokedConnections {
    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Returns true if there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Ends the connections as the policy's `on_revoke` says: none, all at once, or all after the
    /// time `drain`. The ends are spread over `END_SPREAD`.
    pub async fn end(self, how: OnRevoke, drain: Duration) {
        let begin = Instant::now();
        let (wait, spread) = match how {
            OnRevoke::Keep => return,
            OnRevoke::Cut => (Duration::ZERO, END_SPREAD),
            OnRevoke::Drain => (drain, END_SPREAD),
        };
        let step = spread / u32::try_from(self.connections.len().max(1)).unwrap_or(u32::MAX);
        for (index, connection) in self.connections.iter().enumerate() {
            let offset = step.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            tokio::time::sleep_until(begin + wait + offset).await;
            connection.end();
        }
    }
}

#[cfg(test)]
mod tests;
