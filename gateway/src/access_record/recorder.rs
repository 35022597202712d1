//! The writer of access records, which bounds how many are written of refused clients.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use host::log_writer::Sink;
use host::unique_id::{UniqueId, UniqueIdSource};
use peer::record_sampling::{RefusalSampler, RefusalSubject};

use super::line::{BanLine, json_line, with_suppressed};

/// Writer of access records and ban records. It bounds how many records of refused clients are
/// written.
#[derive(Debug)]
pub struct Recorder {
    sink: Sink,
    refusals: RefusalSampler,
    ids: UniqueIdSource,
    connections: AtomicU64,
}

impl Recorder {
    /// Creates a recorder that writes into `sink`.
    pub fn new(sink: Sink) -> Self {
        Self {
            sink,
            refusals: RefusalSampler::default(),
            ids: UniqueIdSource::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// The [`Sink`] that the records are written to.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Returns a new connection number, by which this process and others that it hands over to tell
    /// its connections apart.
    pub fn number(&self) -> u64 {
        self.connections.fetch_add(1, Relaxed) + 1
    }

    /// Returns a new identifier of a connection for its records.
    pub(super) fn id(&self) -> UniqueId {
        self.ids.next()
    }

    /// Writes a record of a ban: `source` is banned for `seconds` after `failures` failed
    /// handshakes. The record is subject to the same bounds as those of refused clients.
    pub fn banned(&self, source: IpAddr, failures: u32, seconds: u64) {
        let ban = BanLine::new(source, failures, seconds);
        self.write_refusal(ban.reason, RefusalSubject::Source(source), || {
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
    pub(super) fn write_refusal(
        &self,
        reason: &'static str,
        whom: RefusalSubject<'_>,
        line: impl FnOnce() -> Vec<u8>,
    ) {
        if let Some((line, suppressed)) = self.refusals.admit(reason, whom, Instant::now(), line) {
            self.sink.send(with_suppressed(line, &suppressed));
        }
    }

    /// Writes a record of a connection that is open. It never has counts of suppressed records.
    pub(super) fn write_open(&self, line: Vec<u8>) {
        self.sink.send(line);
    }

    /// Writes a record of an end that is not subject to bounds.
    pub(super) fn write_ended(&self, line: Vec<u8>) {
        let suppressed = self.refusals.before_another();
        self.sink.send(with_suppressed(line, &suppressed));
    }
}
