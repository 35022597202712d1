//! The content of the policy's files, as the model knows it.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use certgen::CertificateSerial;
use policy::OnRevoke;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tls::TlsSettings;

use super::{CLIENTS, GROUPS, Random};
use crate::access_record::Recorder;
use crate::loaded_policy::LoadedPolicy;
use crate::test_support::GatewayFiles;

/// Time that connections may stay when they are drained.
pub(super) const DRAIN: Duration = Duration::from_secs(3);

/// Time that connections of some clients wait when their limit is reached.
pub(super) const WAIT: Duration = Duration::from_secs(2);

/// Returns true if this client's connections wait when its limit is reached.
pub(super) fn waits(client: usize) -> bool {
    client > 0
}

/// Fixtures that are made once and used by all histories.
pub(super) struct Files {
    _on_disk: GatewayFiles,
    /// TLS settings, indexed by the set of clients whose certificates are revoked.
    tls: Vec<Arc<TlsSettings>>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) recorder: Arc<Recorder>,
}

impl Files {
    pub(super) fn new() -> Self {
        let files = GatewayFiles::new(&Rules::default().text());
        let authority = files.authority();
        let clients = (0..CLIENTS).map(|client| authority.client(&format!("c{client}")).unwrap());
        let clients: Vec<_> = clients.collect();
        let now = OffsetDateTime::now_utc();
        let load = |revoked: usize| {
            let revoked = (0..CLIENTS).filter(|client| revoked & 1 << client != 0);
            let serials: Vec<CertificateSerial> = revoked
                .map(|client| clients[client].serial().clone())
                .collect();
            let list = authority.crl(&serials, now, now + time::Duration::DAY, 1);
            std::fs::write(files.dir().join("all.crl"), list.unwrap().pem()).unwrap();
            let (_, tls) = LoadedPolicy::of_files(&files).into_parts();
            tls
        };
        Self {
            tls: (0..1 << CLIENTS).map(load).collect(),
            certificates: clients
                .iter()
                .map(certgen::IssuedCertificate::certificate_der)
                .collect(),
            recorder: Arc::new(Recorder::new(files.sink())),
            _on_disk: files,
        }
    }

    pub(super) fn tls(&self, rules: &Rules) -> Arc<TlsSettings> {
        Arc::clone(&self.tls[usize::from(rules.revoked)])
    }
}

/// A policy and a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// The number of connections that each client may have, and the set of its groups.
    clients: [Option<(u32, u8)>; CLIENTS],
    /// The set of upstreams of each group; a group without any does not exist.
    groups: [u8; GROUPS],
    revoked: u8,
    pub(super) on_revoke: OnRevoke,
    /// Maximum number of connections of a process.
    pub(super) slots: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            clients: [Some((2, 0b111)); CLIENTS],
            groups: [0b11; GROUPS],
            revoked: 0,
            on_revoke: OnRevoke::Cut,
            slots: 8,
        }
    }
}

impl Rules {
    /// Returns other rules, which are wider or narrower in one place.
    pub(super) fn changed(&self, random: &mut Random) -> Self {
        let mut next = self.clone();
        let (client, group) = (random.below(CLIENTS), random.below(GROUPS));
        match random.below(10) {
            0..=3 => {
                let limit = u32::try_from(1 + random.below(4)).unwrap();
                next.clients[client] =
                    (!random.percent(25)).then(|| (limit, random.some(GROUPS) | 1 << group));
            }
            4..=5 => {
                next.groups[group] = if random.percent(40) {
                    0
                } else {
                    random.some(2)
                }
            }
            6..=7 => next.revoked ^= 1 << client,
            8 => {
                let all = [OnRevoke::Cut, OnRevoke::Drain, OnRevoke::Keep];
                next.on_revoke = all[random.below(3)];
            }
            _ => next.slots = u32::try_from(3 + random.below(8)).unwrap(),
        }
        next
    }

    /// Returns the text of the policy's file.
    pub(super) fn text(&self) -> String {
        let on_revoke = match self.on_revoke {
            OnRevoke::Cut => "cut",
            OnRevoke::Drain => "drain",
            OnRevoke::Keep => "keep",
        };
        let mut text = format!(
            "version: 1\n\
             gateway:\n  listen: ['127.0.0.1:0']\n  on_revoke: {on_revoke}\n\
             \x20 limits: {{connections: {}}}\n  timeouts: {{drain: {}s}}\n\
             \x20 tls: {{certificate: server.crt, key: server.key, client_ca: ca.crt, crl: all.crl}}\n",
            self.slots,
            DRAIN.as_secs()
        );
        // One group and one client are always there, since a policy without any is refused.
        text += "groups:\n  always: {upstreams: ['127.0.0.1:1'], health: {check: off}}\n";
        for (group, upstreams) in self.groups.iter().enumerate().filter(|(_, set)| **set != 0) {
            let all = (0..2).filter(|upstream| upstreams & 1 << upstream != 0);
            let all: Vec<_> = all
                .map(|one| format!("'127.0.0.1:{}'", 1000 + one))
                .collect();
            writeln!(text, "  g{group}: {{upstreams: [{}]}}", all.join(", ")).unwrap();
        }
        text += "clients:\n  always: {groups: [always]}\n";
        for (client, grant) in self.clients.iter().enumerate() {
            let groups: Vec<_> = (0..GROUPS)
                .filter(|group| self.grants(client, *group))
                .collect();
            if let (Some((limit, _)), false) = (grant, groups.is_empty()) {
                let groups: Vec<_> = groups.iter().map(|group| format!("g{group}")).collect();
                let groups = groups.join(", ");
                let wait = if waits(client) {
                    ", when_full: {wait: 2s}"
                } else {
                    ""
                };
                writeln!(
                    text,
                    "  c{client}: {{groups: [{groups}], max_connections: {limit}{wait}}}"
                )
                .unwrap();
            }
        }
        text
    }

    fn grants(&self, client: usize, group: usize) -> bool {
        let granted = self.clients[client].is_some_and(|(_, groups)| groups & 1 << group != 0);
        granted && self.groups[group] != 0
    }

    /// Returns true if this client may be connected to this group.
    pub(super) fn allow(&self, client: usize, group: usize) -> bool {
        self.grants(client, group) && self.revoked & 1 << client == 0
    }

    /// Returns true if a reload from the rules `before` to these finds that a connection is not
    /// allowed.
    pub(super) fn denies_after(&self, before: &Self, client: usize, group: usize) -> bool {
        let is_asked = self.revoked != before.revoked;
        !self.grants(client, group) || (is_asked && !self.allow(client, group))
    }

    /// Returns for each group whether it is absent.
    pub(super) fn without(&self) -> [bool; GROUPS] {
        self.groups.map(|upstreams| upstreams == 0)
    }

    /// Returns the number of connections that a client may have.
    pub(super) fn limit(&self, client: usize) -> u32 {
        self.clients[client].map_or(0, |(limit, _)| limit)
    }
}
