//! One access record per connection, on every path.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use lb::{RelayError, Traffic};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::identity::Identity;
use crate::record_layer::Breach;
use crate::rejection::Rejection;
use crate::sink::Sink;
use crate::verifier::Named;

/// How many records of clients that were not authorized may be written in a second.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).expect("not zero");

/// How a connection ended.
#[derive(Debug)]
pub enum Outcome {
    /// Both sides ended it.
    Finished,
    /// It broke while bytes were relayed.
    Broken(RelayError),
    /// Its permit lapsed.
    Revoked,
    /// The drain's deadline came.
    CutOff,
    /// It was turned away.
    Rejected(Rejection),
}

impl Outcome {
    fn reason(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Broken(RelayError::Downstream(error)) if is_too_much(error) => {
                "too_many_messages"
            }
            Self::Broken(RelayError::Downstream(_)) => "client_broke_off",
            Self::Broken(RelayError::Upstream(_)) => "upstream_broke_off",
            Self::Broken(RelayError::Idle) => "idle",
            Self::Broken(RelayError::Lifetime) => "lifetime",
            Self::Revoked => "revoked",
            Self::CutOff => "drain_deadline",
            Self::Rejected(rejection) => rejection.reason(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Finished | Self::Revoked | Self::CutOff => None,
            Self::Broken(error) => Some(with_source(error)),
            Self::Rejected(rejection) => Some(with_source(rejection)),
        }
    }
}

/// Whether a client was ended for key updates, warnings or empty records without end.
fn is_too_much(error: &io::Error) -> bool {
    let breach = error.get_ref().and_then(|source| source.downcast_ref());
    matches!(breach, Some(Breach::Messages | Breach::EmptyRecords))
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Writes records, and bounds what strangers can make it write.
#[derive(Debug)]
pub struct Recorder {
    sink: Sink,
    strangers: DefaultDirectRateLimiter,
    suppressed: AtomicU64,
    connections: AtomicU64,
}

impl Recorder {
    /// A recorder that writes into `sink`.
    pub fn new(sink: Sink) -> Self {
        Self {
            sink,
            strangers: RateLimiter::direct(Quota::per_second(STRANGERS_PER_SECOND)),
            suppressed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// Where the records go.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// A number for a connection, which no other of this process has.
    pub fn number(&self) -> u64 {
        self.connections.fetch_add(1, Relaxed) + 1
    }

    /// Begins the record of a connection.
    pub fn begin(self: &Arc<Self>, source: SocketAddr, destination: SocketAddr) -> Record {
        Record {
            recorder: Arc::clone(self),
            connection: self.number(),
            began: Instant::now(),
            wall: OffsetDateTime::now_utc(),
            source,
            destination,
            generation: 0,
            sni: None,
            claim: None,
            identity: None,
            group: None,
            upstream: None,
            tries: 0,
            handshake: None,
            resumed: false,
            dialed: None,
            traffic: Arc::new(Traffic::new()),
            outcome: None,
        }
    }

    /// Writes that a source is banned for so many seconds, since so many handshakes failed.
    pub fn banned(&self, source: IpAddr, failures: u32, seconds: u64) {
        let Some(suppressed) = self.admit_stranger() else {
            return;
        };
        let ban = Banned {
            time: OffsetDateTime::now_utc()
                .format(&Rfc3339)
                .unwrap_or_default(),
            source,
            failures,
            ban_seconds: seconds,
            reason: "banned",
            suppressed: (suppressed > 0).then_some(suppressed),
        };
        let mut line = serde_json::to_vec(&ban).expect("a ban has only plain values");
        line.push(b'\n');
        self.sink.send(line);
    }

    /// Says how many records were suppressed since it was last said, if any.
    pub fn confess(&self) {
        let suppressed = self.suppressed.swap(0, Relaxed);
        if suppressed > 0 {
            self.sink
                .send(format!("{{\"suppressed\":{suppressed}}}\n").into_bytes());
        }
    }

    /// Whether a stranger's record may be written, and if so how many were suppressed before it.
    fn admit_stranger(&self) -> Option<u64> {
        if self.strangers.check().is_ok() {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

/// The line that says how many records were lost on their way out.
pub fn tell_lost(lost: u64) -> String {
    format!("{{\"lost\":{lost}}}\n")
}

/// The record of one connection. It writes itself when dropped, panic included.
#[derive(Debug)]
pub struct Record {
    recorder: Arc<Recorder>,
    connection: u64,
    began: Instant,
    wall: OffsetDateTime,
    source: SocketAddr,
    destination: SocketAddr,
    generation: u64,
    sni: Option<String>,
    claim: Option<Identity>,
    identity: Option<Identity>,
    group: Option<Arc<str>>,
    upstream: Option<SocketAddr>,
    tries: u32,
    handshake: Option<Duration>,
    resumed: bool,
    dialed: Option<Duration>,
    traffic: Arc<Traffic>,
    outcome: Option<Outcome>,
}

impl Record {
    /// The connection's number, unique within the process.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Where the client connected from, and where to.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.source, self.destination)
    }

    /// The bytes that are being counted.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// The `ClientHello` was read.
    pub fn greeted(&mut self, generation: u64, sni: Option<String>) {
        self.generation = generation;
        self.sni = sni;
    }

    /// The client was refused, and its certificate names somebody.
    pub fn refused(&mut self, client: Named) {
        match client {
            Named::Claimed(identity) => self.claim = Some(identity),
            Named::Proven(identity) => self.identity = Some(identity),
        }
    }

    /// The client proved who it is, perhaps with a ticket, and may reach a group.
    pub fn authorized(&mut self, identity: Identity, group: &Arc<str>, resumed: bool) {
        self.resumed = resumed;
        self.identity = Some(identity);
        self.group = Some(Arc::clone(group));
        self.handshake = Some(self.began.elapsed());
    }

    /// An upstream was reached, or none after so many tries.
    pub fn dialed(&mut self, upstream: Option<SocketAddr>, tries: u32) {
        self.upstream = upstream;
        self.tries = tries;
        self.dialed = Some(self.began.elapsed());
    }

    /// The connection ended.
    pub fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    fn line(&self, suppressed: u64) -> Vec<u8> {
        let line = Line {
            time: self.wall.format(&Rfc3339).unwrap_or_default(),
            connection: self.connection,
            generation: self.generation,
            source: self.source,
            destination: self.destination,
            sni: self.sni.as_deref(),
            claimed_client: self.claim.as_ref().map(|claim| claim.name().as_str()),
            client: self
                .identity
                .as_ref()
                .map(|identity| identity.name().as_str()),
            certificate: self
                .identity
                .as_ref()
                .or(self.claim.as_ref())
                .map(|identity| identity.fingerprint().to_string()),
            group: self.group.as_deref(),
            upstream: self.upstream,
            tries: self.tries,
            handshake_seconds: self.handshake.map(|time| time.as_secs_f64()),
            resumed: self.resumed.then_some(true),
            dialed_seconds: self.dialed.map(|time| time.as_secs_f64()),
            duration_seconds: self.began.elapsed().as_secs_f64(),
            received_bytes: self.traffic.received(),
            sent_bytes: self.traffic.sent(),
            reason: self.outcome.as_ref().map_or("internal", Outcome::reason),
            detail: self.outcome.as_ref().and_then(Outcome::detail),
            suppressed: (suppressed > 0).then_some(suppressed),
        };
        let mut line = serde_json::to_vec(&line).expect("a record has only plain values");
        line.push(b'\n');
        line
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let suppressed = match self.group {
            Some(_) => Some(0),
            None => self.recorder.admit_stranger(),
        };
        if let Some(suppressed) = suppressed {
            self.recorder.sink.send(self.line(suppressed));
        }
    }
}

/// The record of a ban, which concerns no single connection.
#[derive(Serialize)]
struct Banned {
    time: String,
    source: IpAddr,
    failures: u32,
    ban_seconds: u64,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<u64>,
}

/// A record as it is written. JSON escapes whatever a peer put into its name.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    connection: u64,
    generation: u64,
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
    dialed_seconds: Option<f64>,
    duration_seconds: f64,
    received_bytes: u64,
    sent_bytes: u64,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<u64>,
}
