//! Tables of what the running gateway says of itself, sorted by what needs attention first.

use std::cmp::Reverse;
use std::fmt;

use host::table::{ColumnAlign, TextTable, terminal_width};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clients::{ClientReport, ClientsReport};
use crate::groups::{GroupReport, GroupsReport, UpstreamReport, UpstreamsReport};
use crate::status::{ReloadStatus, StatusReport};

/// Cell without a value.
const NONE: &str = "-";

/// Text form of a [`StatusReport`].
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct StatusLines(pub StatusReport);

impl fmt::Display for StatusLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        let up = age(status.uptime_seconds);
        writeln!(f, "version      {}", status.version)?;
        writeln!(f, "process      {}, {}, up {up}", status.pid, status.role)?;
        writeln!(
            f,
            "policy       {}, generation {}",
            status.policy, status.generation
        )?;
        writeln!(
            f,
            "last reload  {}",
            last_reload(status.last_reload.as_ref())
        )?;
        writeln!(f, "workers      {}", status.workers)?;
        let listeners = if status.listeners.is_empty() {
            NONE.to_owned()
        } else {
            status.listeners.join(" ")
        };
        writeln!(f, "listeners    {listeners}")?;
        let steering = if status.steering { "active" } else { "off" };
        writeln!(f, "steering     {steering}")?;
        let counts = &status.connections;
        let max = limit(counts.max);
        let (open, handshakes, silent) = (counts.open, counts.handshakes, counts.silent);
        writeln!(
            f,
            "connections  {open} open (at most: {max}), {handshakes} handshakes, {silent} silent"
        )?;
        if status.old_process_drains {
            let old = usize::try_from(open)
                .unwrap_or(0)
                .saturating_sub(counts.own);
            writeln!(f, "old process  drains, {old} connections")?;
        }
        Ok(())
    }
}

fn last_reload(reload: Option<&ReloadStatus>) -> String {
    let Some(reload) = reload else {
        return "none since the start".to_owned();
    };
    let ago = seconds_from_now(&reload.time).map_or(0, i64::saturating_neg);
    let ago = age(u64::try_from(ago).unwrap_or(0));
    match (&reload.error, reload.changes) {
        (Some(error), _) => format!("FAILED {ago} ago: {error}"),
        (None, changes) => format!("{ago} ago, {} changes", changes.unwrap_or(0)),
    }
}

/// Table of a [`GroupsReport`].
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct GroupsTable(GroupsReport);

impl GroupsTable {
    /// Sorts the groups: without available upstreams first, then those that miss some.
    pub fn new(mut report: GroupsReport) -> Self {
        report.groups.sort_by_key(|group| {
            let misses = group.available < group.upstreams;
            (group.available > 0, !misses, Reverse(group.connections))
        });
        Self(report)
    }
}

impl fmt::Display for GroupsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = TextTable::new([
            ("GROUP", ColumnAlign::Left),
            ("AVAILABLE", ColumnAlign::Right),
            ("CONNECTIONS", ColumnAlign::Right),
            ("LIMIT", ColumnAlign::Right),
            ("NAMES", ColumnAlign::Left),
        ]);
        for group in &self.0.groups {
            table.push([
                group.name.clone(),
                format!("{}/{}", group.available, group.upstreams),
                group.connections.to_string(),
                limit(group.max_connections),
                names(group),
            ]);
        }
        f.write_str(&table.to_text(terminal_width()))
    }
}

fn names(group: &GroupReport) -> String {
    let ports = group.ports.iter().map(|port| format!(":{port}"));
    let names: Vec<String> = group.sni.iter().cloned().chain(ports).collect();
    names.join(" ")
}

/// Table of an [`UpstreamsReport`].
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct UpstreamsTable(UpstreamsReport);

impl UpstreamsTable {
    /// Sorts the upstreams: those that are down first, then those of unknown health, then those
    /// that are not ready.
    pub fn new(mut report: UpstreamsReport) -> Self {
        report.upstreams.sort_by_key(|upstream| {
            let health = match upstream.health.as_str() {
                "down" => 0,
                "up" => 2,
                _ => 1,
            };
            let is_ready = upstream.state == "ready";
            (health, is_ready, Reverse(upstream.connections))
        });
        Self(report)
    }
}

impl fmt::Display for UpstreamsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = TextTable::new([
            ("GROUP", ColumnAlign::Left),
            ("UPSTREAM", ColumnAlign::Left),
            ("HEALTH", ColumnAlign::Left),
            ("STATE", ColumnAlign::Left),
            ("CONNECTIONS", ColumnAlign::Right),
            ("WEIGHT", ColumnAlign::Right),
            ("CAUSE", ColumnAlign::Left),
        ]);
        for upstream in &self.0.upstreams {
            table.push(upstream_cells(upstream));
        }
        f.write_str(&table.to_text(terminal_width()))
    }
}

fn upstream_cells(upstream: &UpstreamReport) -> [String; 7] {
    let backup = if upstream.backup { " (backup)" } else { "" };
    [
        upstream.group.clone(),
        format!("{}{backup}", upstream.address),
        upstream.health.clone(),
        upstream.state.clone(),
        upstream.connections.to_string(),
        upstream.weight.to_string(),
        upstream.cause.clone().unwrap_or_else(|| NONE.to_owned()),
    ]
}

/// Table of a [`ClientsReport`].
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct ClientsTable(ClientsReport);

impl ClientsTable {
    /// Sorts the clients: those with waiting connections first, then by the share of their limit
    /// that they use, then by their connections.
    pub fn new(mut report: ClientsReport) -> Self {
        report.clients.sort_by_key(|client| {
            let (connections, max) = (u64::from(client.connections), client.max_connections);
            let percent = max.map_or(0, |max| connections * 100 / u64::from(max.max(1)));
            Reverse((client.waiting, percent, connections))
        });
        Self(report)
    }
}

impl fmt::Display for ClientsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = TextTable::new([
            ("CLIENT", ColumnAlign::Left),
            ("CONNECTIONS", ColumnAlign::Right),
            ("LIMIT", ColumnAlign::Right),
            ("WAITING", ColumnAlign::Right),
            ("RATE", ColumnAlign::Right),
            ("CERTIFICATE", ColumnAlign::Right),
            ("GROUPS", ColumnAlign::Left),
        ]);
        for client in &self.0.clients {
            table.push(client_cells(client));
        }
        f.write_str(&table.to_text(terminal_width()))
    }
}

fn client_cells(client: &ClientReport) -> [String; 7] {
    let ends = client.certificate_ends.as_deref();
    let left = ends.and_then(seconds_from_now);
    let left = left.map(|seconds| u64::try_from(seconds).map_or("expired".to_owned(), age));
    [
        client.name.clone(),
        client.connections.to_string(),
        limit(client.max_connections),
        client.waiting.to_string(),
        client.rate.clone().unwrap_or_else(|| NONE.to_owned()),
        left.unwrap_or_else(|| NONE.to_owned()),
        client.groups.join(" "),
    ]
}

fn limit(limit: Option<u32>) -> String {
    limit.map_or_else(|| NONE.to_owned(), |limit| limit.to_string())
}

fn seconds_from_now(time: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    Some((time - OffsetDateTime::now_utc()).whole_seconds())
}

/// Returns a time span in its two largest units, such as `3h12m`.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (11_520, "3h12m"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    fn client(name: &str, connections: u32, max: Option<u32>, waiting: usize) -> ClientReport {
        ClientReport {
            name: name.to_owned(),
            groups: vec!["db".to_owned()],
            connections,
            max_connections: max,
            waiting,
            rate: None,
            certificate_ends: None,
        }
    }

    #[test]
    fn clients_that_wait_or_are_near_their_limit_come_first() {
        let table = ClientsTable::new(ClientsReport {
            generation: 1,
            clients: vec![
                client("idle", 0, Some(5), 0),
                client("busy", 900, None, 0),
                client("full", 5, Some(5), 0),
                client("waits", 2, Some(2), 1),
            ],
        });
        let names: Vec<&str> = table
            .0
            .clients
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, ["waits", "full", "busy", "idle"]);
        let text = table.to_string();
        assert!(
            text.starts_with("CLIENT  CONNECTIONS  LIMIT  WAITING"),
            "{text}"
        );
    }

    fn upstream(address: &str, health: &str, state: &str, connections: u32) -> UpstreamReport {
        UpstreamReport {
            group: "db".to_owned(),
            address: address.to_owned(),
            health: health.to_owned(),
            cause: None,
            state: state.to_owned(),
            weight: 1,
            backup: false,
            connections,
        }
    }

    #[test]
    fn upstreams_that_are_down_come_first() {
        let table = UpstreamsTable::new(UpstreamsReport {
            generation: 1,
            upstreams: vec![
                upstream("1", "up", "ready", 3),
                upstream("2", "up", "drain", 1),
                upstream("3", "unknown", "ready", 0),
                upstream("4", "down", "ready", 0),
            ],
        });
        let sorted: Vec<&str> = table
            .0
            .upstreams
            .iter()
            .map(|one| one.address.as_str())
            .collect();
        assert_eq!(sorted, ["4", "3", "2", "1"]);
    }
}
