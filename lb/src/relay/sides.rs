//! Both sides of a relay, which a relay that breaks off aborts.

use peer::Downstream;
use tokio::net::TcpStream;

use super::end::RelayEnd;
use crate::tcp;

/// Both ends of a connection, aborted on drop unless the relay finished.
pub(super) struct SidesGuard<'a, D: Downstream> {
    pub(super) downstream: &'a mut D,
    pub(super) upstream: &'a mut TcpStream,
    pub(super) finished: Option<RelayEnd>,
}

impl<D: Downstream> Drop for SidesGuard<'_, D> {
    fn drop(&mut self) {
        match self.finished {
            Some(RelayEnd::Both) => tcp::end_in_order(self.upstream),
            Some(RelayEnd::ClientLeft) => {
                self.downstream.abort();
                tcp::end_in_order(self.upstream);
            }
            // The upstream's socket resets by itself unless it was set to end in order.
            None => self.downstream.abort(),
        }
    }
}
