//! Retries of the start while an address is in use or does not exist, within the policy's
//! `listen_retry`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ebpf::{PinDir, Role};
use tokio::time::{Instant, sleep};

use gateway::{Gateway, GatewayStartError, PreparedGateway};
use host::inherited_listeners::InheritedListeners;
use host::systemd::{self, NotifyState};

/// Pause before the second attempt: 250 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two attempts: 1 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Notification that extends the service manager's time limit of the start by 10 s, sent after each
/// attempt.
const LONGER: NotifyState<'_> = NotifyState::ExtendTimeoutUsec(10_000_000);

/// Prepares a gateway. While an address is in use or does not exist, it tries again for `limit` at
/// most. Cancel safe.
///
/// # Errors
///
/// The last attempt's error, or at once any error that is not of an address.
pub(super) async fn prepare(
    gateway: &Arc<Gateway>,
    workers: NonZeroUsize,
    instance: Option<&(PinDir, Role)>,
    mut inherited: InheritedListeners,
    limit: Duration,
) -> Result<PreparedGateway, GatewayStartError> {
    let (begin, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let error = match gateway.prepare(workers, instance, &mut inherited) {
            Ok(prepared) => {
                if pause > FIRST_PAUSE {
                    systemd::tell(&[NotifyState::Status("")]);
                }
                return Ok(prepared);
            }
            Err(error) => error,
        };
        let left = limit.saturating_sub(begin.elapsed());
        if left.is_zero() || !may_pass(&error) {
            return Err(error);
        }
        if pause == FIRST_PAUSE {
            let seconds = limit.as_secs();
            tracing::warn!(%error, seconds, "cannot listen on an address; trying again");
            systemd::tell(&[NotifyState::Status(&error.to_string())]);
        }
        systemd::tell(&[LONGER]);
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns true if an address is in use or does not exist: it may become free or exist later.
fn may_pass(error: &GatewayStartError) -> bool {
    match error {
        GatewayStartError::Listen(error) => error.may_pass(),
        GatewayStartError::SteeringUnavailable(_) | GatewayStartError::Thread(_) => false,
    }
}
