//! Handling of one stream, from its arrival to its end.

use std::sync::Arc;

use peer::{Downstream, left};

use super::LoadBalancer;
use super::outcome::{StreamEnd, StreamOutcome, StreamRejection};
use crate::client_slots::ClientSlot;
use crate::counter::Claim;
use crate::dial::{DialReport, Dialed, dial};
use crate::drain::DrainGuard;
use crate::group::UpstreamGroup;
use crate::relay::{RelayEnd, Traffic};

/// Counts of one connection on the load balancer itself: in the drain and in all connections.
#[derive(Debug)]
struct BalancerSlot {
    _stay: DrainGuard,
    _claim: Claim,
}

/// A stream that is aborted on drop, unless both sides ended in order.
struct StreamAbortGuard<S: Downstream> {
    stream: S,
    armed: bool,
}

impl<S: Downstream> Drop for StreamAbortGuard<S> {
    fn drop(&mut self) {
        if self.armed {
            self.stream.abort();
        }
    }
}

impl LoadBalancer {
    /// Handles a stream from its arrival to its end.
    ///
    /// A client that has all of its connections open waits for as long as its limits say. A stream
    /// that is refused is aborted. Dropping the future aborts both sides and returns everything
    /// that was counted.
    ///
    /// # Errors
    ///
    /// The [`StreamRejection`] of a stream that was not relayed. A relay that broke off is a
    /// [`StreamEnd`].
    pub async fn handle<S: Downstream>(
        &self,
        client: &str,
        group: &str,
        stream: S,
    ) -> Result<StreamEnd, StreamRejection> {
        let mut downstream = StreamAbortGuard {
            stream,
            armed: true,
        };
        let _place = self.take_slot()?;
        let group = self.known(group)?;
        let _admission = self.admitted(client, &mut downstream.stream).await?;
        let mut dialed = self.dial(&group).await?;
        let traffic = Traffic::new();
        let relayed = dialed.relay(&mut downstream.stream, &traffic);
        let outcome = match self.drain.cutoff().run_until_cancelled(relayed).await {
            Some(Ok(RelayEnd::Both)) => {
                downstream.armed = false;
                StreamOutcome::Finished
            }
            Some(Ok(RelayEnd::ClientLeft)) => StreamOutcome::ClientLeft,
            Some(Err(error)) => StreamOutcome::Broken(error),
            None => StreamOutcome::CutOff,
        };
        let (sent, received) = (traffic.sent(), traffic.received());
        Ok(StreamEnd {
            upstream: dialed.lease.address(),
            sent,
            received,
            outcome,
        })
    }

    async fn dial(&self, group: &Arc<UpstreamGroup>) -> Result<Dialed, StreamRejection> {
        let mut report = DialReport::default();
        let dialed = self
            .drain
            .cutoff()
            .run_until_cancelled(dial(group, &mut report))
            .await;
        Ok(dialed.ok_or(StreamRejection::Stopping)??)
    }

    fn take_slot(&self) -> Result<BalancerSlot, StreamRejection> {
        let stay = self.drain.enter().ok_or(StreamRejection::Stopping)?;
        let limit = self.snapshot.load().connections;
        let claim = self
            .open
            .claim(limit)
            .ok_or(StreamRejection::Full { limit })?;
        Ok(BalancerSlot {
            _stay: stay,
            _claim: claim,
        })
    }

    fn known(&self, group: &str) -> Result<Arc<UpstreamGroup>, StreamRejection> {
        let snapshot = self.snapshot.load();
        let group = snapshot.groups.get(group);
        group.map(Arc::clone).ok_or(StreamRejection::UnknownGroup)
    }

    /// Counts a connection of the client, or lets it wait until it is admitted, leaves, or the load
    /// balancer stops.
    async fn admitted<S: Downstream>(
        &self,
        client: &str,
        stream: &mut S,
    ) -> Result<ClientSlot, StreamRejection> {
        let (client, limits) = (client.into(), self.snapshot.load().client);
        tokio::select! {
            biased;
            admitted = self.admit_within(&client, &limits) => Ok(admitted?),
            () = left(stream) => Err(StreamRejection::Left),
            () = self.drain.begun() => Err(StreamRejection::Stopping),
        }
    }
}
