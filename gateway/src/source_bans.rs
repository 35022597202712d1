//! Bans of sources whose handshakes fail, which the kernel enforces.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Instant;

use ebpf::BanTable;
use policy::BanPolicy;

use crate::access_record::Recorder;
use crate::address::network;
use crate::handshake_failures::HandshakeFailures;

/// The failed handshakes by source, and the kernel's table of banned sources.
#[derive(Debug, Default)]
pub(crate) struct SourceBans {
    table: OnceLock<BanTable>,
    failures: HandshakeFailures,
}

impl SourceBans {
    /// Begins to ban. Before that, failures are not counted.
    pub(crate) fn begin(&self, table: BanTable) {
        self.table.get_or_init(|| table);
    }

    /// Counts a failed handshake, and bans its source if it has reached the number that the rule
    /// allows.
    pub(crate) fn handshake_failed(
        &self,
        source: IpAddr,
        rule: &BanPolicy,
        recorder: &Recorder,
        now: Instant,
    ) {
        let Some(table) = self.table.get() else {
            return;
        };
        let source = network(source);
        if !rule.concerns(source) || !self.failures.count(source, rule, now) {
            return;
        }
        let (failures, seconds) = (rule.failures, rule.duration.as_secs());
        match table.ban(source, rule.duration) {
            Ok(()) => {
                tracing::warn!(source_address = %source, failures, seconds, "source banned");
                recorder.banned(source, failures.get(), seconds);
            }
            Err(error) => tracing::error!(%error, source_address = %source, "cannot ban a source"),
        }
    }
}
