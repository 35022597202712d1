//! One access record per connection, on every path.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use host::log_writer::Sink;
use lb::Traffic;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::address::network;
use crate::admission_wait::AdmissionWait;
use crate::client_identity::Identity;
use crate::client_refusal::NamedClient;
use crate::record_sampling::{RefusalSampler, RefusalSubject, SuppressedCounts};
use crate::rejection::Rejection;

mod outcome;

pub use outcome::Outcome;

/// Writer of access records and ban records. It bounds how many records of refused clients are
/// written.
#[derive(Debug)]
pub struct Recorder {
    sink: Sink,
    refusals: RefusalSampler,
    connections: AtomicU64,
}

impl Recorder {
    /// Creates a recorder that writes into `sink`. Connection numbers start at the current time in
    /// microseconds.
    pub fn new(sink: Sink) -> Self {
        // Connections are numbered from the time of the start in microseconds. So no two processes
        // that write into one file have the same numbers, unless there are more than a million
        // connections a second. Until the year 2255 the numbers are exact in readers of JSON that
        // use doubles.
        let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
        Self {
            sink,
            refusals: RefusalSampler::default(),
            connections: AtomicU64::new(micros.try_into().unwrap_or(0)),
        }
    }

    /// The [`Sink`] that the records are written to.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Returns a new connection number. It is unique among all processes of the gateway.
    pub fn number(&self) -> u64 {
        self.connections.fetch_add(1, Relaxed) + 1
    }

    /// Begins the [`Record`] of a connection, with a new connection number. The duration is
    /// measured from now on.
    pub fn begin(self: &Arc<Self>, source: SocketAddr, destination: SocketAddr) -> Record {
        Record {
            recorder: Arc::clone(self),
            connection: self.number(),
            began: Instant::now(),
            wall: OffsetDateTime::now_utc(),
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
            outcome: None,
        }
    }

    /// Writes a record of a ban: `source` is banned for `seconds` after `failures` failed
    /// handshakes. The record is subject to the same bounds as those of refused clients.
    pub fn banned(&self, source: IpAddr, failures: u32, seconds: u64) {
        let ban = BanRecord {
            time: now(),
            source,
            failures,
            ban_seconds: seconds,
            reason: "banned",
        };
        self.refused(ban.reason, RefusalSubject::Source(source), || {
            json_line(&ban)
        });
    }

    /// Writes the first record that was suppressed since the last written one, if there is one,
    /// together with the counts of the others.
    pub fn report_suppressed(&self) {
        if let Some((line, suppressed)) = self.refusals.take_held() {
            self.sink.send(with_suppressed(line, &suppressed));
        }
    }

    /// Writes the record of a refusal, or counts it as suppressed if its budget is spent.
    fn refused(
        &self,
        reason: &'static str,
        whom: RefusalSubject<'_>,
        line: impl FnOnce() -> Vec<u8>,
    ) {
        if let Some((line, suppressed)) = self.refusals.admit(reason, whom, Instant::now(), line) {
            self.sink.send(with_suppressed(line, &suppressed));
        }
    }
}

/// Serializes a record as one line of JSON, with the line feed.
fn json_line(record: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("a record has only plain values");
    line.push(b'\n');
    line
}

/// Adds the field `suppressed` to a record: the counts, by reason, of the records that were
/// suppressed before it. Without any the line is unchanged.
fn with_suppressed(mut line: Vec<u8>, suppressed: &SuppressedCounts) -> Vec<u8> {
    if !suppressed.is_empty() {
        let counts = serde_json::to_string(suppressed).expect("counts are plain values");
        line.truncate(line.len() - "}\n".len());
        line.extend(format!(",\"suppressed\":{counts}}}\n").into_bytes());
    }
    line
}

/// Returns the current time as records contain it: RFC 3339, UTC.
pub fn now() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// Returns the line that reports how many records were lost on their way to the output.
pub fn lost_line(lost: u64) -> String {
    format!("{{\"lost\":{lost}}}\n")
}

/// The access record of one connection. It writes itself when it is dropped, also during a panic.
#[derive(Debug)]
pub struct Record {
    recorder: Arc<Recorder>,
    connection: u64,
    began: Instant,
    wall: OffsetDateTime,
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
    outcome: Option<Outcome>,
}

impl Record {
    /// Returns the connection's number.
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
        match &self.client {
            Some(NamedClient::Proven(identity)) => RefusalSubject::Client(identity.name().as_str()),
            Some(NamedClient::Claimed(claim)) if is_signed => {
                RefusalSubject::Client(claim.name().as_str())
            }
            Some(NamedClient::Claimed(_)) | None => {
                RefusalSubject::Source(network(self.source.ip()))
            }
        }
    }

    fn reason(&self) -> &'static str {
        self.outcome.as_ref().map_or("internal", Outcome::reason)
    }

    fn line(&self) -> Vec<u8> {
        let (claim, identity) = match &self.client {
            Some(NamedClient::Claimed(claim)) => (Some(claim), None),
            Some(NamedClient::Proven(identity)) => (None, Some(identity)),
            None => (None, None),
        };
        json_line(&RecordLine {
            time: rfc3339(self.wall),
            connection: self.connection,
            generation: self.generation,
            source: self.source,
            destination: self.destination,
            sni: self.sni.as_deref(),
            claimed_client: claim.map(|claim| claim.name().as_str()),
            client: identity.map(|identity| identity.name().as_str()),
            certificate: identity
                .or(claim)
                .map(|identity| identity.fingerprint().to_string()),
            group: self.group.as_deref(),
            upstream: self.upstream,
            tries: self.tries,
            handshake_seconds: self.handshake.map(|time| time.as_secs_f64()),
            resumed: self.resumed.then_some(true),
            waited_seconds: self.wait.so_far().map(|time| time.as_secs_f64()),
            dialed_seconds: self.dialed.map(|time| time.as_secs_f64()),
            duration_seconds: self.began.elapsed().as_secs_f64(),
            received_bytes: self.traffic.received(),
            sent_bytes: self.traffic.sent(),
            reason: self.reason(),
            detail: self.outcome.as_ref().and_then(Outcome::detail),
        })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let recorder = &self.recorder;
        match self.outcome {
            Some(Outcome::Rejected(_)) | None => {
                recorder.refused(self.reason(), self.subject(), || self.line());
            }
            Some(_) => {
                let suppressed = recorder.refusals.before_another();
                let line = with_suppressed(self.line(), &suppressed);
                recorder.sink.send(line);
            }
        }
    }
}

/// The record of a ban. It belongs to a source, not to a single connection.
#[derive(Serialize)]
struct BanRecord {
    time: String,
    source: IpAddr,
    failures: u32,
    ban_seconds: u64,
    reason: &'static str,
}

/// The fields of an access record as they are written. JSON escapes all characters that a peer put
/// into its name.
#[derive(Serialize)]
struct RecordLine<'a> {
    time: String,
    connection: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<NonZeroU64>,
    source: SocketAddr,
    destination: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<SocketAddr>,
    tries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialed_seconds: Option<f64>,
    duration_seconds: f64,
    received_bytes: u64,
    sent_bytes: u64,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}
