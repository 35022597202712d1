//! Admission of authenticated clients. A client's limits are checked by this process, or by the one
//! that counts the clients now. If all connections that a client may have are open, one more may
//! wait until one of those ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lb::{ClientDenied, ClientLimits, ClientSlot, QueuedSlot, SharedName, SlotOutcome};
use policy::OnRevoke;
use rustls_pki_types::{CertificateDer, UnixTime};
use tls::client_stream::ClientStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::access_record::{Outcome, Record};
use crate::admission_wait::AdmissionWait;
use crate::balancer_config;
use crate::connection_event::ConnectionState;
use crate::connection_table::{ConnectionGuard, EndRequests};
use crate::expiry::certificate_ended;
use crate::rejection::Rejection;
use crate::remote_admission::RemoteAdmission;
use crate::shared_state::SharedState;
use crate::snapshot::Permit;

mod candidate;
mod remote;

use candidate::{AdmissionCandidate, LocalCandidate, RemoteCandidate};

/// The request to admit one connection of a client.
struct AdmissionRequest<'a> {
    connection: u64,
    client: &'a SharedName,
    group: &'a str,
    limits: ClientLimits,
    /// Time of its arrival. `None` if no one is notified that it waits: it is admitted at once or
    /// refused.
    since: Option<Instant>,
}

/// State of an admission, from one look at the deciding process to the next.
enum AdmissionState {
    /// It has not been requested, or must be requested again.
    NotAsked,
    /// It waits in this process for a slot.
    Queued(QueuedSlot),
    /// It was given a slot in this process.
    Granted(ClientSlot),
    /// Another process has admitted it.
    AdmittedRemotely(Arc<RemoteAdmission>),
}

/// Result of one look at the deciding process.
enum AdmissionStep<T> {
    Entered(T),
    Queued(QueuedSlot),
    AskRemote(Arc<RemoteAdmission>),
}

impl SharedState {
    /// Admits a client, or returns the [`Outcome`] of its connection. While it waits, the wait ends
    /// if the client disconnects, if a certificate of its chain ends, or at the drain's deadline.
    ///
    /// # Errors
    ///
    /// The [`Outcome`] of the connection: the client is refused, it left, or the wait was ended.
    pub(crate) async fn admit_client(
        &self,
        client: &mut ClientStream,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
        record: &mut Record,
    ) -> Result<ConnectionGuard, Outcome> {
        let (ends, connection) = (permit.expires(), record.connection());
        let at_once = || (OnRevoke::Cut, Duration::ZERO);
        let entered = tokio::select! {
            biased;
            entered = self.admit(connection, permit, chain, record.wait()) => {
                entered.map_err(Outcome::Rejected)
            }
            () = client.left() => Err(Outcome::Rejected(Rejection::LeftWaiting)),
            () = certificate_ended(ends, connection, at_once) => Err(Outcome::CertificateEnded),
            () = self.drain().cut_off() => Err(Outcome::CutOff),
        };
        record.wait().end();
        entered
    }

    /// Admits a client if its limits allow it: those of this process and of the others that serve
    /// the gateway's clients together. A generation that came into force since the permit was given
    /// decides too. Cancel safe: a client that waits leaves the queue.
    ///
    /// # Errors
    ///
    /// The [`Rejection`]: a limit is reached, or the permit was revoked meanwhile.
    pub(crate) async fn admit(
        &self,
        connection: u64,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
        wait: &mut AdmissionWait,
    ) -> Result<ConnectionGuard, Rejection> {
        let client = Arc::clone(permit.identity().name().shared());
        let group = Arc::clone(&permit.group().name);
        let request = AdmissionRequest {
            connection,
            client: &client,
            group: &group,
            limits: balancer_config::client(permit.client()),
            since: Some(Instant::now()),
        };
        let local = LocalCandidate {
            shared: self,
            connection,
            permit,
            chain,
        };
        let guard = self.admit_and_insert(request, local, wait).await?;
        // From here on a reload finds it in the table.
        if guard.still_holds(&self.snapshot(), UnixTime::now()) {
            Ok(guard)
        } else {
            Err(Rejection::Revoked)
        }
    }

    /// Admits a client of an older process by its limits in this one, and returns the connection's
    /// number here. `waited` is the time that it has waited there already, `None` if it may not
    /// wait.
    ///
    /// # Errors
    ///
    /// The [`Rejection`]: a limit is reached, or the client may no longer reach the group.
    pub(crate) async fn admit_remote(
        &self,
        connection_state: &ConnectionState,
        end_requests: &EndRequests,
        waited: Option<Duration>,
        wait: &mut AdmissionWait,
    ) -> Result<u64, Rejection> {
        let snapshot = self.snapshot();
        let connection = self.recorder().number();
        let remote = RemoteCandidate {
            shared: self,
            connection,
            state: connection_state,
            end_requests,
        };
        let now = Instant::now();
        let request = AdmissionRequest {
            connection,
            client: &connection_state.client.as_str().into(),
            group: &connection_state.group,
            limits: remote.limits(&snapshot).ok_or(Rejection::Revoked)?,
            since: waited.map(|waited| now.checked_sub(waited).unwrap_or(now)),
        };
        let entered = self.admit_and_insert(request, remote, wait).await;
        wait.end();
        entered?.ok_or(Rejection::GatewayFull)?;
        // A generation that came into force meanwhile may not have seen it.
        let latest = self.snapshot();
        if latest.generation() != snapshot.generation() {
            self.connections().end_if_revoked(connection, &latest);
        }
        Ok(connection)
    }

    /// Admits a client in this process or in the one that counts the clients now, and inserts it
    /// into the table while the deciding process cannot change.
    async fn admit_and_insert<N: AdmissionCandidate>(
        &self,
        mut request: AdmissionRequest<'_>,
        candidate: N,
        wait: &mut AdmissionWait,
    ) -> Result<N::Entered, Rejection> {
        let mut state = AdmissionState::NotAsked;
        let mut candidate = Some(candidate);
        let mut changes = None;
        loop {
            let step = self.decide(&request, state, &mut candidate)?;
            if let AdmissionStep::Entered(entered) = step {
                return Ok(entered);
            }
            let candidate = candidate.as_ref().ok_or(Rejection::Revoked)?;
            // A change before this subscription is seen by the next look.
            let is_new = changes.is_none();
            let changes = changes.get_or_insert_with(|| self.connections().changes());
            state = match step {
                AdmissionStep::Queued(waiting) if is_new => AdmissionState::Queued(waiting),
                AdmissionStep::Queued(waiting) => {
                    self.wait_in_queue(&mut request, candidate, waiting, (changes, wait))
                        .await?
                }
                AdmissionStep::AskRemote(remote_admission) => {
                    self.ask_remote(&request, candidate, remote_admission, (changes, wait))
                        .await?
                }
                AdmissionStep::Entered(_) => AdmissionState::NotAsked,
            };
        }
    }

    /// Finds out which process decides, and inserts a client that is admitted before that can
    /// change.
    fn decide<N: AdmissionCandidate>(
        &self,
        request: &AdmissionRequest<'_>,
        state: AdmissionState,
        candidate: &mut Option<N>,
    ) -> Result<AdmissionStep<N::Entered>, Rejection> {
        let mut enter = |slot| {
            let candidate = candidate.take().ok_or(Rejection::Revoked)?;
            Ok(AdmissionStep::Entered(candidate.insert(slot)))
        };
        let limiter = self.balancer().limiter();
        let remote_admission = self.connections().remote_admission();
        let slot = match (&*remote_admission, state) {
            (Some(remote_admission), AdmissionState::AdmittedRemotely(by))
                if Arc::ptr_eq(remote_admission, &by) =>
            {
                let entered = enter(limiter.admit_unlimited(request.client));
                if by.confirm_entered(request.connection) {
                    // That process has denied it meanwhile.
                    self.connections().end_entered(request.connection);
                }
                return entered;
            }
            // A client that was queued here leaves the queue.
            (Some(remote_admission), _) => {
                return Ok(AdmissionStep::AskRemote(Arc::clone(remote_admission)));
            }
            (None, AdmissionState::Queued(waiting)) => return Ok(AdmissionStep::Queued(waiting)),
            (None, AdmissionState::Granted(slot)) => slot,
            (None, AdmissionState::NotAsked | AdmissionState::AdmittedRemotely(_)) => {
                // No client begins to wait in a gateway that drains.
                let since = request.since.filter(|_| !self.drain().is_begun());
                let mut limits = request.limits;
                if since.is_none() {
                    limits.wait = Duration::ZERO;
                }
                let since = since.unwrap_or_else(Instant::now);
                let outcome = limiter.admit_or_wait(request.client, &limits, since);
                match outcome.map_err(Rejection::Limited)? {
                    SlotOutcome::Granted(slot) => slot,
                    SlotOutcome::Queued(waiting) => {
                        tracing::debug!(
                            client = %request.client,
                            "a client waits for one of its connections to end"
                        );
                        return Ok(AdmissionStep::Queued(waiting));
                    }
                }
            }
        };
        enter(
            limiter
                .check_rate(slot, &request.limits)
                .map_err(Rejection::Limited)?,
        )
    }

    /// Waits for a slot in this process, or until the request must be decided again.
    async fn wait_in_queue<N: AdmissionCandidate>(
        &self,
        request: &mut AdmissionRequest<'_>,
        candidate: &N,
        mut waiting: QueuedSlot,
        (changes, wait): (&mut watch::Receiver<()>, &mut AdmissionWait),
    ) -> Result<AdmissionState, Rejection> {
        changes.mark_unchanged();
        if self.connections().remote_admission().is_some() {
            return Ok(AdmissionState::NotAsked);
        }
        let limits = candidate
            .limits(&self.snapshot())
            .ok_or(Rejection::Revoked)?;
        if limits != request.limits {
            waiting.set_limit(limits.connections);
            request.limits = limits;
        }
        let since = request.since.unwrap_or_else(Instant::now);
        wait.begin(since);
        let limit = limits.connections;
        tokio::select! {
            biased;
            slot = waiting.granted() => Ok(AdmissionState::Granted(slot)),
            _ = changes.changed() => Ok(AdmissionState::Queued(waiting)),
            () = self.drain().begun() => Err(full(limit)),
            () = sleep_until(since + limits.wait) => Err(full(limit)),
        }
    }

    /// Asks the process that decides, which makes the client wait if its policy says so.
    async fn ask_remote<N: AdmissionCandidate>(
        &self,
        request: &AdmissionRequest<'_>,
        candidate: &N,
        remote_admission: Arc<RemoteAdmission>,
        (changes, wait): (&mut watch::Receiver<()>, &mut AdmissionWait),
    ) -> Result<AdmissionState, Rejection> {
        let message = ConnectionState {
            connection: request.connection,
            client: request.client.to_string(),
            group: request.group.to_owned(),
            upstream: None,
            credentials: candidate.credentials(),
        };
        let waited = request.since.map(|since| since.elapsed());
        let mut asking = pin!(remote_admission.request(message, waited));
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut asking => break answer,
                _ = changes.changed() => {
                    // A client that is denied here withdraws its request.
                    candidate.limits(&self.snapshot()).ok_or(Rejection::Revoked)?;
                }
            }
        };
        let Some(answer) = answer else {
            // That process does not count any more; which one does is known soon.
            tokio::task::yield_now().await;
            return Ok(AdmissionState::NotAsked);
        };
        if let Some(time) = answer.waited {
            wait.set(time);
        }
        answer.verdict.into_result()?;
        Ok(AdmissionState::AdmittedRemotely(Arc::clone(
            &remote_admission,
        )))
    }
}

fn full(limit: lb::Limit) -> Rejection {
    Rejection::Limited(ClientDenied::ClientConnections { limit })
}
