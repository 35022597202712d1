//! The figures of a run: a table, JSON, and a plot.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;

use serde::Serialize;

use crate::fallible::Fallible;
use crate::peers::Peer;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    HandshakeCpu,
    HandshakeRate,
    ResumedCpu,
    ResumedShare,
    LargePolicyCpu,
    Ping1P50,
    Ping1P99,
    Ping64Cpu,
    Ping64P50,
    Ping64P99,
    RateP50,
    RateP99,
    UpCpu,
    UpRate,
    DownCpu,
    DownRate,
    BothCpu,
    BothRate,
    IdleMemory,
    SilentMemory,
    StalledP99,
    HerdSeconds,
    HerdFailed,
    ChurnCpu,
    ChurnFailed,
}

impl Metric {
    const fn title(self) -> &'static str {
        match self {
            Self::HandshakeCpu => "full handshake, 1 byte, close: CPU µs",
            Self::HandshakeRate => "the same: a second",
            Self::ResumedCpu => "the same with the last ticket: CPU µs",
            Self::ResumedShare => "resumed, share of them",
            Self::LargePolicyCpu => "full handshake, 3 or 100,000 groups: CPU µs",
            Self::Ping1P50 => "64 bytes there and back, 1 connection: p50 µs",
            Self::Ping1P99 => "the same: p99 µs",
            Self::Ping64Cpu => "64 bytes there and back, 64 connections: CPU µs",
            Self::Ping64P50 => "the same: p50 µs",
            Self::Ping64P99 => "the same: p99 µs",
            Self::RateP50 => "64 bytes, 2,000 a second over 64 connections: p50 µs",
            Self::RateP99 => "the same: p99 µs",
            Self::UpCpu => "client to upstream: CPU s/GiB",
            Self::UpRate => "the same: GiB/s",
            Self::DownCpu => "upstream to client: CPU s/GiB",
            Self::DownRate => "the same: GiB/s",
            Self::BothCpu => "both ways: CPU s/GiB",
            Self::BothRate => "the same: GiB/s",
            Self::IdleMemory => "idle connection: KiB",
            Self::SilentMemory => "client silent in the handshake: KiB",
            Self::StalledP99 => "p99 of new connections, 2,000 silent ones over none",
            Self::HerdSeconds => "5,000 clients at once: s",
            Self::HerdFailed => "of which failed",
            Self::ChurnCpu => "connections of all kinds, bytes checked: CPU µs",
            Self::ChurnFailed => "of which failed",
        }
    }

    /// Whether the plot shows it: costs, of which less is better.
    const fn is_cost(self) -> bool {
        match self {
            Self::HandshakeCpu
            | Self::ResumedCpu
            | Self::Ping1P50
            | Self::Ping64Cpu
            | Self::Ping64P99
            | Self::UpCpu
            | Self::DownCpu
            | Self::BothCpu
            | Self::IdleMemory
            | Self::SilentMemory
            | Self::HerdSeconds => true,
            Self::HandshakeRate
            | Self::ResumedShare
            | Self::LargePolicyCpu
            | Self::Ping1P99
            | Self::Ping64P50
            | Self::RateP50
            | Self::RateP99
            | Self::UpRate
            | Self::DownRate
            | Self::BothRate
            | Self::StalledP99
            | Self::HerdFailed
            | Self::ChurnCpu
            | Self::ChurnFailed => false,
        }
    }
}

/// All figures.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    cores: usize,
    versions: Vec<(String, String)>,
    products: Vec<String>,
    figures: BTreeMap<Metric, BTreeMap<String, Vec<f64>>>,
}

impl Report {
    pub(crate) fn new(peers: &[Peer], cores: usize) -> Self {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = information
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("", |line| line.trim_start_matches(['\t', ' ', ':']));
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let versions = peers
            .iter()
            .map(|peer| (peer.name().to_owned(), peer.version()));
        let products = peers.iter().filter(|peer| peer.is_product());
        Self {
            machine: format!("{processors} × {model}, Linux {}", kernel.trim()),
            cores,
            versions: versions.collect(),
            products: products.map(|peer| peer.name().to_owned()).collect(),
            figures: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, metric: Metric, peer: &str, value: f64) {
        let of_metric = self.figures.entry(metric).or_default();
        of_metric.entry(peer.to_owned()).or_default().push(value);
    }

    pub(crate) fn json(&self) -> Fallible<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The best of the others' products.
    fn best(&self, figures: &BTreeMap<String, Vec<f64>>) -> Option<f64> {
        let of_products = self.products.iter().filter_map(|name| figures.get(name));
        of_products.map(|values| median(values)).reduce(f64::min)
    }

    /// Bars: what each cost is beside the best product's.
    pub(crate) fn plot(&self) -> String {
        let own = "portcullis";
        let rows: Vec<(Metric, f64)> = self
            .figures
            .iter()
            .filter(|(metric, _)| metric.is_cost())
            .filter_map(|(metric, figures)| {
                let ratio = median(figures.get(own)?) / self.best(figures)?;
                Some((*metric, ratio))
            })
            .collect();
        let height = 40 + 24 * rows.len();
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='760' height='{height}' \
             font-family='sans-serif' font-size='12'>\n\
             <text x='10' y='20'>portcullis beside the best of {}: less is better</text>\n",
            self.products.join(", ")
        );
        for (row, (metric, ratio)) in rows.iter().enumerate() {
            let y = 36 + 24 * row;
            let width = (ratio * 200.0).min(400.0);
            let colour = if *ratio <= 1.0 { "#2a7" } else { "#c63" };
            // Writing into a string does not fail.
            writeln!(
                svg,
                "<text x='330' y='{}' text-anchor='end'>{}</text>\
                 <rect x='340' y='{y}' width='{width:.0}' height='16' fill='{colour}'/>\
                 <text x='{:.0}' y='{}'>{ratio:.2}</text>",
                y + 12,
                metric.title(),
                346.0 + width,
                y + 12,
            )
            .ok();
        }
        svg + "<line x1='540' y1='30' x2='540' y2='100%' stroke='#888'/>\n</svg>\n"
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How far the figures are apart, as a share of the median.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / median(values).max(f64::MIN_POSITIVE)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {} gateway core(s)\n", self.machine, self.cores)?;
        for (name, version) in &self.versions {
            writeln!(f, "- {name}: {version}")?;
        }
        for (metric, figures) in &self.figures {
            writeln!(f, "\n{}", metric.title())?;
            let own = figures.get("portcullis").map(|values| median(values));
            for (peer, values) in figures {
                let middle = median(values);
                let spread = spread(values) * 50.0;
                write!(f, "  {peer:<28} {middle:>12.3}   ±{spread:>3.0} %")?;
                match own {
                    Some(own) if middle > 0.0 && peer != "portcullis" => {
                        writeln!(f, "   portcullis: {:.2} of it", own / middle)?;
                    }
                    Some(_) | None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts_and_a_ratio_is_to_the_best_product() {
        let mut report = Report::new(&[], 1);
        report.products = vec!["envoy".to_owned(), "nginx".to_owned()];
        for (peer, values) in [
            ("portcullis", [1.0, 9.0, 2.0]),
            ("envoy", [4.0, 4.0, 5.0]),
            ("nginx", [8.0, 7.0, 8.0]),
            ("tokio-rustls", [1.0, 1.0, 1.0]),
        ] {
            for value in values {
                report.add(Metric::UpCpu, peer, value);
            }
        }
        let table = report.to_string();
        assert!(table.contains("portcullis: 0.25 of it"), "{table}");
        assert!(report.plot().contains(">0.50</text>"), "{}", report.plot());
        assert!((spread(&[1.0, 2.0, 3.0]) - 1.0).abs() < 1e-9);
    }
}
