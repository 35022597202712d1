//! Measurement of the memory that is left for further clients, so that they are refused before the
//! kernel ends the process for lack of memory.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum interval between two measurements.
const MEASURE: Duration = Duration::from_millis(100);
/// Estimate of the bytes that a client takes until the next measurement, with those that the kernel
/// needs for its sockets.
const EACH: u64 = 16 * 1024;
/// Initial capacity, in bytes, of the buffer for one of the kernel's files.
const ROOM: usize = 8 * 1024;
/// Tenths of a control group's limit that may be in use before it is full.
const TENTHS: u64 = 9;
/// The machine is full when less than this fraction (1/n) of its memory is available.
const MACHINE_SHARE: u64 = 50;
/// Mount point of control groups (systemd, containers) of version 2.
const GROUPS: &str = "/sys/fs/cgroup";

/// Gauge of the memory in use: it measures every 100 ms at most, and estimates in between.
///
/// ```
/// use std::{num::NonZeroU64, time::Instant};
/// use host::memory_gauge::MemoryGauge;
///
/// let gauge = MemoryGauge::default();
/// assert!(gauge.is_full(NonZeroU64::new(1), Instant::now()), "a process has more than a byte");
/// ```
#[derive(Debug, Default)]
pub struct MemoryGauge(Mutex<Option<MemoryReading>>);

#[derive(Debug, Clone, Copy)]
struct MemoryReading {
    at: Instant,
    /// Bytes of the process that are in memory.
    resident: u64,
    /// Bytes that the control group or the machine has left, whichever is less.
    left: u64,
    /// Number of clients that have arrived since.
    clients: u64,
}

impl MemoryGauge {
    /// Returns true if there is no memory for one more client: the process has reached `limit` (in
    /// bytes; `None` for no limit of its own), or its control group or the machine has hardly any
    /// left (10 % of the limit, 2 % of the machine). Counts the client. A limit that
    /// cannot be read, without `/proc` or control groups of version 2, does not count.
    pub fn is_full(&self, limit: Option<NonZeroU64>, now: Instant) -> bool {
        let mut measured = self.0.lock();
        let is_due =
            |measured: &MemoryReading| now.saturating_duration_since(measured.at) >= MEASURE;
        if measured.as_ref().is_none_or(is_due) {
            *measured = Some(MemoryReading {
                at: now,
                resident: resident().unwrap_or(0),
                left: left().unwrap_or(u64::MAX),
                clients: 0,
            });
        }
        measured
            .as_mut()
            .is_some_and(|measured| measured.is_full(limit))
    }
}

impl MemoryReading {
    fn is_full(&mut self, limit: Option<NonZeroU64>) -> bool {
        self.clients += 1;
        let grown = self.clients.saturating_mul(EACH);
        let is_over = limit.is_some_and(|most| self.resident.saturating_add(grown) > most.get());
        is_over || grown > self.left
    }
}

/// Returns the bytes of the process that are in memory (`VmRSS`, `proc_pid_status(5)`).
fn resident() -> Option<u64> {
    let status = read("/proc/self/status")?;
    Some(field(&status, "VmRSS:")? * 1024)
}

/// Returns the bytes that may still be used, of the control group or of the machine, whichever is
/// less.
fn left() -> Option<u64> {
    let own = read("/proc/self/cgroup");
    let group = own.and_then(|text| left_in_group(Path::new(GROUPS), &text));
    let machine = read("/proc/meminfo");
    let machine = machine.and_then(|text| left_on_machine(&text));
    group.into_iter().chain(machine).min()
}

/// Returns the bytes that may still be used of the control group that `/proc/self/cgroup` names,
/// and of the groups around it, whichever is least. `mount` is the mount point of control groups.
fn left_in_group(mount: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = mount.join(path);
    let groups = group
        .ancestors()
        .take_while(|group| group.starts_with(mount));
    groups.filter_map(left_in).min()
}

fn left_in(group: &Path) -> Option<u64> {
    let number = |file: &str| {
        let text = read(group.join(file))?;
        text.trim().parse::<u64>().ok()
    };
    // Without a limit the file contains `max`.
    let most = number("memory.max")?;
    let used = number("memory.current")?;
    // The kernel frees the memory in which it caches files before it ends a process.
    let stat = read(group.join("memory.stat")).unwrap_or_default();
    let of_files = ["inactive_file ", "active_file "].map(|key| field(&stat, key).unwrap_or(0));
    let used = used.saturating_sub(of_files.iter().sum());
    Some((most / 10 * TENTHS).saturating_sub(used))
}

fn left_on_machine(meminfo: &str) -> Option<u64> {
    let all = field(meminfo, "MemTotal:")? * 1024;
    let available = field(meminfo, "MemAvailable:")? * 1024;
    Some(available.saturating_sub(all / MACHINE_SHARE))
}

/// Reads a file of the kernel, whose size is not known before: with a buffer for all of it that is
/// one call, and one more to see its end.
fn read(path: impl AsRef<Path>) -> Option<String> {
    let mut text = String::with_capacity(ROOM);
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the number after a line's key.
fn field(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn between_two_measures_each_client_counts() {
        let mut measured = MemoryReading {
            at: Instant::now(),
            resident: 10 * EACH,
            left: 3 * EACH,
            clients: 0,
        };
        let at_most = NonZeroU64::new(12 * EACH);
        let mut full = |limit| measured.is_full(limit);
        assert_eq!(
            [full(at_most), full(at_most), full(at_most)],
            [false, false, true]
        );
        assert!(full(None), "the fourth has no room either");
        measured.clients = 0;
        assert!(!measured.is_full(None));
    }

    #[test]
    fn memory_is_measured_again_after_a_while_and_not_for_each_client() {
        let (gauge, now) = (MemoryGauge::default(), Instant::now());
        let at_most = NonZeroU64::new;
        assert!(!gauge.is_full(at_most(u64::MAX), now));
        assert!(
            gauge.is_full(at_most(1024 * 1024), now),
            "a process has more"
        );
        let clients = || gauge.0.lock().unwrap().clients;
        assert_eq!(clients(), 2);
        assert!(gauge.is_full(at_most(1), now + MEASURE));
        assert_eq!(clients(), 1);
    }

    #[test]
    fn the_narrowest_of_the_groups_around_the_process_counts_without_what_is_kept_of_files() {
        let mount = tempfile::tempdir().unwrap();
        let write = |group: &str, max: &str, current: &str, stat: &str| {
            let path = mount.path().join(group);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("memory.max"), max).unwrap();
            fs::write(path.join("memory.current"), current).unwrap();
            fs::write(path.join("memory.stat"), stat).unwrap();
        };
        let own = "1:name=systemd:/x\n0::/slice/unit\n";
        let left = || left_in_group(mount.path(), own);
        assert_eq!(left(), None, "there are none");
        write("slice/unit", "max\n", "5\n", "");
        assert_eq!(left(), None, "nothing is limited");
        write(
            "slice",
            "1000\n",
            "700\n",
            "anon 1\ninactive_file 100\nactive_file 50\n",
        );
        assert_eq!(left(), Some(350));
        write("slice/unit", "500\n", "449\n", "");
        assert_eq!(left(), Some(1));
        write("slice/unit", "500\n", "480\n", "");
        assert_eq!(left(), Some(0));
    }

    #[test]
    fn a_machine_keeps_a_little_for_itself() {
        let meminfo = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    25 kB\n";
        assert_eq!(left_on_machine(meminfo), Some(5 * 1024));
        assert_eq!(left_on_machine("MemTotal: 1000 kB\n"), None);
    }
}
