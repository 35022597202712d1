//! What clients that misbehave, all at once, can do to the gateway: little, and not for long.
//!
//! Each test starts the real process. How many clients there are can be raised:
//! `PORTCULLIS_STALLED`, `PORTCULLIS_CHURN_CLIENTS`, `PORTCULLIS_CHURN_SECONDS` and
//! `PORTCULLIS_UNREAD`. Figures are printed; `--nocapture` shows them.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test's runtime ends its tasks")]

#[path = "endurance/churn.rs"]
mod churn;
#[path = "endurance/client.rs"]
mod client;
#[path = "endurance/descriptors.rs"]
mod descriptors;
#[path = "endurance/dice.rs"]
mod dice;
#[path = "endurance/forgery.rs"]
mod forgery;
#[path = "endurance/log.rs"]
mod log;
#[path = "endurance/places.rs"]
mod places;
#[path = "endurance/process.rs"]
mod process;
#[path = "endurance/stage.rs"]
mod stage;
#[path = "endurance/stalled.rs"]
mod stalled;

use std::time::Duration;

/// How long anything may take before a test is called hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends a test that hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it happens soon")
}

/// Looks again and again until something is so.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A number that the environment may raise.
fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}
