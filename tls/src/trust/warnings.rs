//! Warnings about authorities and revocation lists.

use rustls_pki_types::UnixTime;

use super::authority::ClientAuthority;
use super::crl::VerifiedCrl;
use crate::files::{ExpiredLists, SettingsFile, SettingsFinding};

/// Returns the number of authorities that are valid at this time.
pub(super) fn valid(authorities: &[ClientAuthority], now: UnixTime) -> usize {
    let valid = authorities.iter();
    valid.filter(|one| one.period.check(now).is_ok()).count()
}

/// Returns the current warnings about the authorities.
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
    for ClientAuthority {
        name,
        period,
        is_revoked,
        ..
    } in authorities
    {
        let what = if *is_revoked {
            Some("is on its issuer's revocation list: its clients are refused".to_owned())
        } else {
            let is_valid = period.check(now).is_ok();
            is_valid.then(|| period.ending(now)).flatten()
        };
        findings.extend(what.map(|what| SettingsFinding::new(file, format_args!("{name} {what}"))));
    }
    findings
}

/// Returns the current warnings about the effective revocation lists.
pub(super) fn of_lists<'a>(
    lists: impl Iterator<Item = &'a VerifiedCrl>,
    expired: ExpiredLists,
    now: UnixTime,
) -> Vec<SettingsFinding> {
    let refused = match expired {
        ExpiredLists::Refuse => "; without a newer list all clients of this authority are refused",
        ExpiredLists::Accept => "",
    };
    let ending = lists.filter_map(|list| Some((list, list.ending(now)?)));
    ending
        .map(|(list, what)| {
            let what = format_args!("the list of {list} {what}{refused}");
            SettingsFinding::new(SettingsFile::List(0), what)
        })
        .collect()
}
