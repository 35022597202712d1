//! The lines of the access log: their fields, and how they are written.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;

use host::timestamp;
use peer::record_sampling::SuppressedCounts;
use serde::Serialize;

/// Event that a line reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecordEvent {
    /// The relay of a connection begins.
    Opened,
    /// A connection has been relayed for a further hour.
    Open,
    /// A connection that was relayed has ended.
    Closed,
    /// A connection has ended without having been relayed.
    Refused,
    /// A source was banned.
    Banned,
}

impl RecordEvent {
    /// Returns true if the event is the end of a connection.
    pub(super) fn is_end(self) -> bool {
        match self {
            Self::Closed | Self::Refused => true,
            Self::Opened | Self::Open | Self::Banned => false,
        }
    }
}

/// The fields of an access record as they are written. JSON escapes all characters that a peer put
/// into its name.
#[derive(Serialize)]
pub(super) struct RecordLine<'a> {
    pub(super) event: RecordEvent,
    pub(super) time: String,
    pub(super) connection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<NonZeroU64>,
    #[serde(flatten)]
    pub(super) addresses: Addresses,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed_client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed_issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed_serial: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<SocketAddr>,
    pub(super) tries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handshake_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resumed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waited_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dialed_seconds: Option<f64>,
    #[serde(flatten)]
    pub(super) progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

/// Both ends of a client's connection.
#[derive(Serialize)]
pub(super) struct Addresses {
    source_address: IpAddr,
    source_port: u16,
    destination_address: IpAddr,
    destination_port: u16,
}

impl Addresses {
    pub(super) fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source_address: source.ip(),
            source_port: source.port(),
            destination_address: destination.ip(),
            destination_port: destination.port(),
        }
    }
}

/// Age of a connection, and the bytes that it has moved.
#[derive(Serialize)]
pub(super) struct Progress {
    pub(super) duration_seconds: f64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

/// The record of a ban. It belongs to a source, not to a single connection.
#[derive(Serialize)]
pub(super) struct BanLine {
    event: RecordEvent,
    time: String,
    source_address: IpAddr,
    failures: u32,
    ban_seconds: u64,
    pub(super) reason: &'static str,
}

impl BanLine {
    pub(super) fn new(source: IpAddr, failures: u32, seconds: u64) -> Self {
        Self {
            event: RecordEvent::Banned,
            time: timestamp::now(),
            source_address: source,
            failures,
            ban_seconds: seconds,
            reason: "banned",
        }
    }
}

/// Serializes a record as one line of JSON, with the line feed.
pub(super) fn json_line(record: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("a record has only plain values");
    line.push(b'\n');
    line
}

/// Adds the field `suppressed` to a record: the counts, by reason, of the records that were
/// suppressed before it. Without any the line is unchanged.
pub(super) fn with_suppressed(mut line: Vec<u8>, suppressed: &SuppressedCounts) -> Vec<u8> {
    if !suppressed.is_empty() {
        let counts = serde_json::to_string(suppressed).expect("counts are plain values");
        line.truncate(line.len() - "}\n".len());
        line.extend(format!(",\"suppressed\":{counts}}}\n").into_bytes());
    }
    line
}

/// Returns the line that reports how many records were lost on their way to the output.
pub fn lost_line(lost: u64) -> String {
    format!("{{\"lost\":{lost}}}\n")
}
