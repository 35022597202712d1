//! Warnings about authorities.

use rustls_pki_types::UnixTime;

use super::authority::ClientAuthority;
use crate::files::{SettingsFile, SettingsFinding};

/// Returns the number of authorities that are valid at this time.
pub(super) fn valid(authorities: &[ClientAuthority], now: UnixTime) -> usize {
    let valid = authorities.iter();
    valid.filter(|one| one.period.check(now).is_ok()).count()
}

/// Returns the current warnings about the authorities, except that they end.
pub(super) fn of_authorities(
    authorities: &[ClientAuthority],
    now: UnixTime,
) -> Vec<SettingsFinding> {
    let mut findings = Vec::new();
    let (valid, all) = (valid(authorities, now), authorities.len());
    let file = SettingsFile::ClientCa;
    if valid < all {
        let what = format_args!("{} of {all} authorities are not valid now", all - valid);
        findings.push(SettingsFinding::new(file, what));
    }
    let revoked = authorities.iter().filter(|one| one.is_revoked);
    findings.extend(revoked.map(|ClientAuthority { name, .. }| {
        let what = format_args!(
            "{name} is on its issuer's revocation list: its clients are refused; remove it from \
             the file"
        );
        SettingsFinding::new(file, what)
    }));
    findings
}
