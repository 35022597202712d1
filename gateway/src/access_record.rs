//! Access records: one when the relay of a connection begins, one for each hour that it lasts, and
//! one at the end, on every path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::timestamp;
use host::unique_id::UniqueId;
use lb::Traffic;
use peer::record_sampling::RefusalSubject;
use policy::OpenedRecords;
use tls::claimed_certificate::ClaimedCertificate;
use tokio::time::sleep;

use crate::address::network;
use crate::admission_wait::AdmissionWait;
use crate::client_identity::Identity;
use crate::client_refusal::NamedClient;
use crate::rejection::Rejection;

mod line;
mod outcome;
mod recorder;

pub use line::lost_line;
pub use outcome::Outcome;
pub use recorder::Recorder;

use line::{Addresses, Progress, RecordEvent, RecordLine, json_line};

/// Interval of the records of a connection that stays open: 1 hour.
const STILL_OPEN: Duration = Duration::from_hours(1);

/// The access record of one connection. The record of its end writes itself when this is dropped,
/// also during a panic.
#[derive(Debug)]
pub struct Record {
    recorder: Arc<Recorder>,
    id: UniqueId,
    connection: u64,
    began: Instant,
    source: SocketAddr,
    destination: SocketAddr,
    generation: Option<NonZeroU64>,
    sni: Option<String>,
    client: Option<NamedClient>,
    group: Option<Arc<str>>,
    upstream: Option<SocketAddr>,
    tries: u32,
    handshake: Option<Duration>,
    resumed: bool,
    wait: AdmissionWait,
    dialed: Option<Duration>,
    traffic: Arc<Traffic>,
    is_relayed: bool,
    outcome: Option<Outcome>,
}

impl Record {
    /// Begins the record of a connection, with a new identifier and a new number. The duration is
    /// measured from now on.
    pub fn begin(recorder: &Arc<Recorder>, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            recorder: Arc::clone(recorder),
            id: recorder.id(),
            connection: recorder.number(),
            began: Instant::now(),
            source,
            destination,
            generation: None,
            sni: None,
            client: None,
            group: None,
            upstream: None,
            tries: 0,
            handshake: None,
            resumed: false,
            wait: AdmissionWait::default(),
            dialed: None,
            traffic: Arc::new(Traffic::new()),
            is_relayed: false,
            outcome: None,
        }
    }

    /// Returns the connection's number in this process.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Returns the address that the client connected from (source) and the one it connected to
    /// (destination).
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.source, self.destination)
    }

    /// Returns the [`Traffic`] counters of the connection, which the relay updates.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Notes that the `ClientHello` was read: the generation that decides about it, and its SNI
    /// name.
    pub fn hello_read(&mut self, generation: u64, sni: Option<String>) {
        self.generation = NonZeroU64::new(generation);
        self.sni = sni;
    }

    /// Notes the name in the certificate of a client that was refused.
    pub fn refused(&mut self, client: NamedClient) {
        self.client = Some(client);
    }

    /// Notes that the client authenticated itself by a ticket.
    pub fn resumed(&mut self) {
        self.resumed = true;
    }

    /// Notes that the client authenticated itself and is authorized to reach `group`. The
    /// handshake's duration ends here.
    pub fn authorized(&mut self, identity: Identity, group: &Arc<str>) {
        self.client = Some(NamedClient::Proven(identity));
        self.group = Some(Arc::clone(group));
        self.handshake = Some(self.began.elapsed());
    }

    /// Returns the [`AdmissionWait`] of the connection, to be updated.
    pub(crate) fn wait(&mut self) -> &mut AdmissionWait {
        &mut self.wait
    }

    /// Notes the end of dialing: the upstream that was reached, or `None`, after `tries` attempts.
    pub fn dialed(&mut self, upstream: Option<SocketAddr>, tries: u32) {
        self.upstream = upstream;
        self.tries = tries;
        self.dialed = (tries > 0).then(|| self.began.elapsed());
    }

    /// Notes that the relay begins, and writes a record of that if `opened` is
    /// [`OpenedRecords::Written`].
    pub fn relay_begins(&mut self, opened: OpenedRecords) {
        self.is_relayed = true;
        if opened == OpenedRecords::Written {
            self.recorder.write_open(self.line(RecordEvent::Opened));
        }
    }

    /// Writes a record of the open connection each [`STILL_OPEN`]. Never returns. Cancel safe.
    pub(crate) async fn report_open(&self) -> Infallible {
        loop {
            sleep(STILL_OPEN).await;
            self.recorder.write_open(self.line(RecordEvent::Open));
        }
    }

    /// Notes the connection's [`Outcome`]. Without one the record gives the reason `internal`.
    pub fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Returns the client or the source that a refusal is counted for. A name in a certificate that
    /// no authority signed proves nothing; such a refusal is counted for the [`network`] of the
    /// source.
    fn subject(&self) -> RefusalSubject<'_> {
        let is_signed = match &self.outcome {
            Some(Outcome::Rejected(Rejection::Untrusted(untrusted))) => {
                untrusted.reason() == "certificate_revoked"
            }
            _ => true,
        };
        let named = match &self.client {
            Some(NamedClient::Proven(identity)) => Some(identity),
            Some(NamedClient::Claimed(claim)) => Some(claim).filter(|_| is_signed),
            Some(NamedClient::Distrusted(client)) => client.identity.as_ref().filter(|_| is_signed),
            None => None,
        };
        let source = || RefusalSubject::Source(network(self.source.ip()));
        named.map_or_else(source, |identity| {
            RefusalSubject::Client(identity.name().as_str())
        })
    }

    fn reason(&self) -> &'static str {
        self.outcome.as_ref().map_or("internal", Outcome::reason)
    }

    fn line(&self, event: RecordEvent) -> Vec<u8> {
        let (claim, identity) = match &self.client {
            Some(NamedClient::Claimed(claim)) => (Some(claim), None),
            Some(NamedClient::Distrusted(client)) => (client.identity.as_ref(), None),
            Some(NamedClient::Proven(identity)) => (None, Some(identity)),
            None => (None, None),
        };
        let distrusted = match &self.client {
            Some(NamedClient::Distrusted(client)) => Some(&client.certificate),
            Some(NamedClient::Claimed(_) | NamedClient::Proven(_)) | None => None,
        };
        let claimed_fingerprint = distrusted
            .map(ClaimedCertificate::fingerprint)
            .or(claim.map(Identity::fingerprint));
        let progress = (event != RecordEvent::Opened).then(|| self.progress());
        let reason = event.is_end().then(|| self.reason());
        let detail = self.outcome.as_ref().and_then(Outcome::detail);
        json_line(&RecordLine {
            event,
            time: timestamp::now(),
            connection: self.id.to_string(),
            generation: self.generation,
            addresses: Addresses::new(self.source, self.destination),
            sni: self.sni.as_deref(),
            claimed_client: claim.map(|claim| claim.name().as_str()),
            client: identity.map(|identity| identity.name().as_str()),
            certificate: identity.map(|identity| identity.fingerprint().to_string()),
            claimed_certificate: claimed_fingerprint.map(|print| print.to_string()),
            claimed_subject: distrusted.map(ClaimedCertificate::subject),
            claimed_issuer: distrusted.map(ClaimedCertificate::issuer),
            claimed_serial: distrusted.map(ClaimedCertificate::serial),
            group: self.group.as_deref(),
            upstream: self.upstream,
            tries: self.tries,
            handshake_seconds: self.handshake.map(|time| time.as_secs_f64()),
            resumed: self.resumed.then_some(true),
            waited_seconds: self.wait.so_far().map(|time| time.as_secs_f64()),
            dialed_seconds: self.dialed.map(|time| time.as_secs_f64()),
            progress,
            reason,
            detail,
        })
    }

    fn progress(&self) -> Progress {
        Progress {
            duration_seconds: self.began.elapsed().as_secs_f64(),
            received_bytes: self.traffic.received(),
            sent_bytes: self.traffic.sent(),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let recorder = &self.recorder;
        match self.outcome {
            // The end of a connection whose opening was written is written too.
            _ if self.is_relayed => recorder.write_ended(self.line(RecordEvent::Closed)),
            Some(Outcome::Rejected(_)) | None => {
                recorder.write_refusal(self.reason(), self.subject(), || {
                    self.line(RecordEvent::Refused)
                });
            }
            Some(_) => recorder.write_ended(self.line(RecordEvent::Refused)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "they read what was written")]
mod tests;
