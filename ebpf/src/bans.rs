//! Bans of sources for a limited time, enforced in the kernel.

use std::net::IpAddr;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use ebpf_common::{Source, mapped, network};
use rustix::time::{ClockId, clock_gettime};

use crate::error::SteerError;
use crate::maps::map;
use crate::pin_dir::PinDir;

/// Table of an instance's bans, shared with the kernel.
///
/// It holds 65,536 sources; if it is full, a new ban replaces the one of a source that has not
/// connected for the longest time.
#[derive(Debug)]
pub struct BanTable(PinDir);

impl BanTable {
    /// Opens the table of an instance.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the instance is not loaded, another [`SteerError`] if the
    /// process may not open the table.
    pub fn open(pin_dir: &PinDir) -> Result<Self, SteerError> {
        map(pin_dir, "BANS").map(|_| Self(pin_dir.clone()))
    }

    fn table(&self) -> Result<HashMap<MapData, Source, u64>, SteerError> {
        Ok(Map::LruHashMap(map(&self.0, "BANS")?).try_into()?)
    }

    /// Refuses connections to steered ports from an IPv4 address, or from the 64-bit network of an
    /// IPv6 address, for this long from now on. A new ban of a source replaces its old one.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the instance is not loaded, another [`SteerError`] if the
    /// kernel does not take the entry.
    pub fn ban(&self, source: IpAddr, duration: Duration) -> Result<(), SteerError> {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let until = now().saturating_add(nanoseconds);
        Ok(self.table()?.insert(key(source), until, 0)?)
    }

    /// The banned sources and the remaining times of their bans, sorted by source.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the instance is not loaded, another [`SteerError`] if the table
    /// cannot be read.
    pub fn all(&self) -> Result<Vec<(IpAddr, Duration)>, SteerError> {
        let now = now();
        let mut bans = Vec::new();
        let table = self.table()?;
        for entry in &table {
            let (source, until) = entry?;
            let left = Duration::from_nanos(until.saturating_sub(now));
            if !left.is_zero() {
                bans.push((IpAddr::from(source).to_canonical(), left));
            }
        }
        bans.sort_unstable();
        Ok(bans)
    }

    /// Lifts the ban of a source; returns true if it was banned.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the instance is not loaded, another [`SteerError`] if the table
    /// cannot be read or changed.
    pub fn lift(&self, source: IpAddr) -> Result<bool, SteerError> {
        let banned = self.all()?;
        let key = key(source);
        let is_banned = banned.iter().any(|(one, _)| self::key(*one) == key);
        if is_banned {
            self.table()?.remove(&key)?;
        }
        Ok(is_banned)
    }
}

fn key(source: IpAddr) -> Source {
    match source.to_canonical() {
        IpAddr::V4(source) => mapped(source.octets()),
        IpAddr::V6(source) => network(source.octets()),
    }
}

/// Monotonic time in nanoseconds, as `bpf_ktime_get_ns` returns it.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
