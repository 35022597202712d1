//! Strangers who connect without pause, and say nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::task::JoinHandle;

use super::until;

/// How many strangers there are.
const STRANGERS: usize = 2;
/// How many connections make a flood.
const MANY: usize = 500;

/// Strangers who connect without pause, each on a thread of its own.
#[derive(Debug)]
pub(crate) struct Flood {
    goes_on: Arc<AtomicBool>,
    strangers: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Begins, and waits until it is one.
    pub(crate) async fn begin(gateway: SocketAddr) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let connected = Arc::new(AtomicUsize::new(0));
        let strangers = (0..STRANGERS).map(|_| {
            let (goes_on, connected) = (Arc::clone(&goes_on), Arc::clone(&connected));
            tokio::task::spawn_blocking(move || {
                while goes_on.load(Relaxed) {
                    // Refused as soon as nobody listens.
                    let is_connected = std::net::TcpStream::connect(gateway).is_ok();
                    connected.fetch_add(usize::from(is_connected), Relaxed);
                }
            })
        });
        let strangers = strangers.collect();
        until(async || (connected.load(Relaxed) > MANY).then_some(())).await;
        Self { goes_on, strangers }
    }

    /// Ends it.
    pub(crate) async fn end(mut self) {
        self.goes_on.store(false, Relaxed);
        for stranger in std::mem::take(&mut self.strangers) {
            stranger.await.unwrap();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.goes_on.store(false, Relaxed);
    }
}
