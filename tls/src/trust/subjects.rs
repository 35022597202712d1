//! The authorities' names that a handshake sends.

use std::path::Path;

use rustls::DistinguishedName;

use crate::files::{SettingsFile, SettingsFinding};

/// Maximum size in bytes of the authorities' names that a handshake sends. TLS has room for 64 KiB
/// with all else, but Java reads only 32 KiB of a handshake message.
const LARGEST_SUBJECTS: usize = 16 * 1024;

/// Sorts the names and removes equal ones. Removes all of them, and returns a finding about the
/// file of the authorities, if they are larger than clients can read.
pub(super) fn bound(
    subjects: &mut Vec<DistinguishedName>,
    authorities: &Path,
) -> Option<SettingsFinding> {
    subjects.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    subjects.dedup_by(|one, other| one.as_ref() == other.as_ref());
    let bytes: usize = subjects.iter().map(|name| 2 + name.as_ref().len()).sum();
    if bytes <= LARGEST_SUBJECTS {
        return None;
    }
    let what = SettingsFinding::new(
        SettingsFile::ClientCa,
        format_args!(
            "the names of {} authorities have {bytes} bytes, too many for some clients; no names \
             are sent, so a client with several certificates cannot tell which one to use",
            subjects.len()
        ),
    );
    subjects.clear();
    Some(what.within(authorities.display()))
}
