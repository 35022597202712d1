//! The end of a connection whose client's certificate ends.

use std::future::pending;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::time::sleep;

use crate::connection_table::END_SPREAD;
use crate::policy::OnRevoke;

/// How many connections whose certificates end together are told apart in [`END_SPREAD`].
const SPREAD_STEPS: u32 = 100;
/// How often the system's time is looked at, which may be set meanwhile.
const LOOK_AT_CLOCK: Duration = Duration::from_hours(1);

/// Waits until a connection's certificate has ended, or another of its chain, and the connection must end as
/// `on_revoke` says at that time. Those that end together are spread as those that are cut off. Cancel safe.
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
