//! The end of a connection when a certificate of its client expires.

use std::future::pending;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::time::sleep;

use policy::OnRevoke;

/// Time over which the ends of connections that are cut off together are spread: 1 second.
pub(crate) const END_SPREAD: Duration = Duration::from_secs(1);
/// Number of steps over which connections that end together are spread within [`END_SPREAD`].
const SPREAD_STEPS: u32 = 100;
/// Interval between two checks of the system's clock, which can be set in the meantime.
const LOOK_AT_CLOCK: Duration = Duration::from_hours(1);

/// Waits until a certificate of the connection's chain has expired at `ends` and the connection
/// must end as `on_revoke` says at that time. Never returns without `ends`, nor for
/// [`OnRevoke::Keep`].
///
/// Connections that end together are spread over [`END_SPREAD`], as those whose permits are
/// revoked. Cancel safe.
pub(crate) async fn certificate_ended(
    ends: Option<UnixTime>,
    connection: u64,
    on_revoke: impl Fn() -> (OnRevoke, Duration),
) {
    let Some(ends) = ends else {
        return pending().await;
    };
    // A certificate is valid in its last second.
    while let Some(left) = ends.as_secs().checked_sub(UnixTime::now().as_secs()) {
        sleep(Duration::from_secs(left.saturating_add(1)).min(LOOK_AT_CLOCK)).await;
    }
    let step = u32::try_from(connection % u64::from(SPREAD_STEPS)).unwrap_or(0);
    let spread = END_SPREAD * step / SPREAD_STEPS;
    match on_revoke() {
        (OnRevoke::Keep, _) => pending().await,
        (OnRevoke::Cut, _) => sleep(spread).await,
        (OnRevoke::Drain, drain) => sleep(drain.saturating_add(spread)).await,
    }
}
