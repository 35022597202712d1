//! Whether a client that nothing is relayed for yet is still there.

use std::{
    future::{pending, poll_fn},
    task::Poll,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    relay::Downstream,
    tcp::{PeerPresence, presence},
};

/// How often a client is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until a client is gone, without reading what it says. Cancel safe.
///
/// One that has ended its stream may listen all the same; it is [nudged](Downstream::nudge) once, and is gone when
/// it answers by a reset. Without a socket nobody can see it.
pub async fn left<D: Downstream>(client: &mut D) {
    let mut is_nudged = false;
    loop {
        let Some(socket) = client.socket() else {
            return pending().await;
        };
        match presence(socket) {
            PeerPresence::Gone => return,
            PeerPresence::Ended if !is_nudged => {
                is_nudged = true;
                poll_fn(|cx| {
                    client.nudge(cx);
                    Poll::Ready(())
                })
                .await;
            }
            PeerPresence::Ended | PeerPresence::Sending => {}
        }
        sleep(LOOK).await;
    }
}
