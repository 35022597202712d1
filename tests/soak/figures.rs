//! The figures of a soak: counts of everything that happened, and how memory moved.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::Mutex;

/// How many failures are kept in words.
const MOST_FAILURES: usize = 20;

/// Counts that every task adds to.
#[derive(Debug)]
pub(crate) struct Figures {
    began: Instant,
    pub(crate) connections: AtomicU64,
    /// Bytes that came back as they were sent.
    pub(crate) bytes: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) refused_reloads: AtomicU64,
    pub(crate) upgrades: AtomicU64,
    pub(crate) revocations: AtomicU64,
    pub(crate) flaps: AtomicU64,
    /// Connections that were to be refused and were.
    pub(crate) refusals: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// Seconds since the beginning and KiB of resident memory, by process.
    memory: Mutex<BTreeMap<u32, Vec<(f64, f64)>>>,
    /// How often each reason stood in an access record.
    reasons: Mutex<BTreeMap<String, u64>>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            connections: AtomicU64::default(),
            bytes: AtomicU64::default(),
            reloads: AtomicU64::default(),
            refused_reloads: AtomicU64::default(),
            upgrades: AtomicU64::default(),
            revocations: AtomicU64::default(),
            flaps: AtomicU64::default(),
            refusals: AtomicU64::default(),
            failures: Mutex::default(),
            memory: Mutex::default(),
            reasons: Mutex::default(),
        }
    }
}

impl Figures {
    pub(crate) fn add(count: &AtomicU64) {
        count.fetch_add(1, Relaxed);
    }

    /// Notes what must not have happened.
    pub(crate) fn failed(&self, what: String) {
        let mut failures = self.failures.lock();
        if failures.len() < MOST_FAILURES {
            println!("after {:.0?}: {what}", self.began.elapsed());
            failures.push(what);
        }
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }

    /// Notes how much memory a process has in use.
    pub(crate) fn sample(&self, process: u32) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
            return;
        };
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        if let Some(kib) = kib {
            let mut memory = self.memory.lock();
            let samples = memory.entry(process).or_default();
            samples.push((self.began.elapsed().as_secs_f64(), kib));
        }
    }

    pub(crate) fn recorded(&self, reason: &str) {
        let mut reasons = self.reasons.lock();
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// Whether the soak had everything in it that it is for.
    pub(crate) fn is_complete(&self) -> bool {
        let all = [
            &self.connections,
            &self.bytes,
            &self.reloads,
            &self.refused_reloads,
            &self.upgrades,
            &self.revocations,
            &self.flaps,
            &self.refusals,
        ];
        all.iter().all(|count| count.load(Relaxed) > 0)
    }

    /// KiB an hour of the process that served longest, without its first third, in which pools
    /// fill.
    fn slope(&self) -> Option<f64> {
        let memory = self.memory.lock();
        let longest = memory.values().max_by_key(|samples| samples.len())?;
        let settled = &longest[longest.len() / 3..];
        let count = f64::from(u32::try_from(settled.len()).ok()?);
        let mean = |pick: fn(&(f64, f64)) -> f64| settled.iter().map(pick).sum::<f64>() / count;
        let (time, size) = (mean(|one| one.0), mean(|one| one.1));
        let together: f64 = settled.iter().map(|(t, s)| (t - time) * (s - size)).sum();
        let apart: f64 = settled.iter().map(|(t, _)| (t - time).powi(2)).sum();
        (apart > 0.0).then(|| 3600.0 * together / apart)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.began.elapsed().as_secs_f64() / 3600.0;
        writeln!(f, "hours              {hours:.2}")?;
        let counts = [
            ("connections", &self.connections),
            ("bytes checked", &self.bytes),
            ("reloads", &self.reloads),
            ("reloads refused", &self.refused_reloads),
            ("upgrades", &self.upgrades),
            ("revocations", &self.revocations),
            ("upstream flaps", &self.flaps),
            ("refusals, as due", &self.refusals),
        ];
        for (name, count) in counts {
            writeln!(f, "{name:<18} {}", count.load(Relaxed))?;
        }
        writeln!(f, "failures           {}", self.failures.lock().len())?;
        if let Some(slope) = self.slope() {
            writeln!(f, "memory slope       {slope:.0} KiB/h")?;
        }
        for (process, samples) in self.memory.lock().iter() {
            let sizes = || samples.iter().map(|(_, kib)| *kib);
            let (least, most) = (
                sizes().fold(f64::MAX, f64::min),
                sizes().fold(0.0, f64::max),
            );
            writeln!(f, "memory of {process:<8} {least:.0} to {most:.0} KiB")?;
        }
        for (reason, count) in self.reasons.lock().iter() {
            writeln!(f, "record {reason:<24} {count}")?;
        }
        Ok(())
    }
}
