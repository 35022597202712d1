//! `listen_retry:` and `freebind:` of the policy: treatment of addresses of `listen` that are in
//! use or do not exist.

use std::time::Duration;

use crate::duration::duration;
use crate::fields::MappingFields;
use crate::fields::number::flag;
use crate::problem::ProblemList;

/// Permission to listen on addresses that no interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freebind {
    /// Listening on such an address fails.
    Off,
    /// Listening on such an address is possible; an interface may get it later.
    On,
}

/// Reads the time for which a start tries again, and the permission to listen on addresses that no
/// interface has.
pub(crate) fn read(
    fields: &MappingFields<'_, '_>,
    problems: &mut ProblemList,
) -> (Option<Duration>, Freebind) {
    let retry = fields.or("listen_retry", None, problems, |node, problems| {
        duration(node, problems).map(Some)
    });
    let freebind = if fields.value("freebind", problems, flag) {
        Freebind::On
    } else {
        Freebind::Off
    };
    (retry, freebind)
}
