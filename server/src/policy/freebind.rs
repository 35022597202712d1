//! What becomes of an address of `listen` that is in use, or that is not there.

use std::time::Duration;

use super::duration::duration;
use super::fields::MappingFields;
use super::fields::number::flag;
use super::problem::ProblemList;

/// Whether a listener may have an address that no interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freebind {
    /// It may not.
    Off,
    /// It may: the address may come later.
    On,
}

/// Reads for how long a start tries again, and whether addresses may be listened at that are not there.
pub(super) fn read(
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
