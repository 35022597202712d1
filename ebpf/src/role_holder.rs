//! Processes that hold the roles of an instance.
//!
//! A process writes its pid and its start time when it takes a role, and clears them when it
//! retires. A killed process leaves them behind, so the reader looks for the process in `/proc` by
//! both. The pid is the one in the process's own PID namespace. A reader outside of it finds the
//! process as well, and gets the pid that it sees itself.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aya::maps::{Array, Map, MapData};
use ebpf_common::RoleEntry;

use crate::error::SteerError;
use crate::maps::{map, numbers};
use crate::pin_dir::PinDir;
use crate::role::Role;

const PROCESSES: &str = "PROCESSES";

/// Holder of a [`Role`] of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleHolder {
    /// The role is free.
    Nobody,
    /// A running process holds the role.
    Process {
        /// The pid, as the caller sees it.
        pid: u32,
        /// The time at which it took the role.
        since: SystemTime,
    },
    /// A process that has ended without leaving the role, or that the caller cannot see.
    Lost {
        /// The pid, in the process's own PID namespace.
        pid: u32,
    },
    /// A process of an earlier version, which does not write its pid, or one that has ended: the
    /// table of pids has no entry, or does not exist.
    Unknown,
}

impl RoleHolder {
    /// Reads the holder of a role of an instance.
    ///
    /// # Errors
    ///
    /// A [`SteerError`] if the table of processes exists and cannot be read.
    pub fn of(pin_dir: &PinDir, role: Role) -> Result<Self, SteerError> {
        let entry = match processes(pin_dir) {
            Ok(table) => table.get(&role.number(), 0)?,
            Err(SteerError::NotLoaded(_)) => RoleEntry::default(),
            Err(error) => return Err(error),
        };
        let [pid, started, since] = entry;
        if pid != 0 {
            let since = UNIX_EPOCH + Duration::from_secs(since);
            return Ok(match visible(pid, started) {
                Some(pid) => Self::Process { pid, since },
                None => Self::Lost {
                    pid: u32::try_from(pid).unwrap_or(u32::MAX),
                },
            });
        }
        let has_workers = numbers(pin_dir, "WORKERS")?.get(&role.number(), 0)? > 0;
        Ok(if has_workers {
            Self::Unknown
        } else {
            Self::Nobody
        })
    }
}

/// Makes the entry of this process, with now as the time at which it takes the role.
pub(crate) fn own_entry() -> RoleEntry {
    let pid = std::process::id();
    let since = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    [pid.into(), started("self").unwrap_or(0), since]
}

/// Writes the entry of a role's holder; does nothing if an earlier version, which has no table for
/// it, loaded the instance.
pub(crate) fn note(pin_dir: &PinDir, role: Role, entry: RoleEntry) -> Result<(), SteerError> {
    match processes(pin_dir) {
        Ok(mut table) => Ok(table.set(role.number(), entry, 0)?),
        Err(SteerError::NotLoaded(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn processes(pin_dir: &PinDir) -> Result<Array<MapData, RoleEntry>, SteerError> {
    Ok(Map::Array(map(pin_dir, PROCESSES)?).try_into()?)
}

/// Finds a running process by its pid in its own PID namespace and its start time; returns the pid
/// that the caller sees.
fn visible(pid: u64, when: u64) -> Option<u32> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|seen| {
        let seen = seen.to_string();
        started(&seen) == Some(when) && innermost_pid(&seen) == Some(pid)
    })
}

/// Start time of a process, in clock ticks since boot; `None` if it has ended.
fn started(process: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // proc_pid_stat(5): the third field is the state, the 22nd the start. The second may contain
    // anything.
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    let state = fields.next()?;
    let has_ended = matches!(state, "Z" | "X" | "x");
    let started = fields.nth(18)?.parse().ok()?;
    (!has_ended).then_some(started)
}

/// Pid of a process in its own PID namespace.
fn innermost_pid(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_pid_and_start_until_it_has_ended() {
        let [pid, when, since] = own_entry();
        assert_eq!(visible(pid, when), Some(std::process::id()));
        assert_eq!(visible(pid, when + 1), None, "another had this pid before");
        assert_ne!(since, 0);

        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = child.id();
        let when = started(&pid.to_string()).unwrap();
        assert_eq!(visible(pid.into(), when), Some(pid));
        child.kill().unwrap();
        while started(&pid.to_string()).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(visible(pid.into(), when), None, "nobody has waited for it");
        child.wait().unwrap();
    }
}
