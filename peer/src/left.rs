//! Detection of a client that leaves before anything is relayed for it.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use crate::downstream::Downstream;
use crate::presence::{PeerPresence, presence};

/// Interval between two checks of a client.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until a client is gone, without reading what it sends. Cancel safe.
///
/// A client that has ended its stream may still listen; it is [nudged](Downstream::nudge) once, and
/// is gone when it answers with a reset. Without a [socket](Downstream::socket) this cannot be
/// seen, and the future never ends.
///
/// ```
/// use peer::left;
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut stream, _) = listener.accept().await?;
/// client.set_zero_linger()?;
/// drop(client);
/// left(&mut stream).await;
/// # Ok(())
/// # }
/// ```
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
