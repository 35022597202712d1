//! Flood of connections without certificates: some are closed at once, some send nothing, some send
//! bytes that are not TLS.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use socket2::{Domain, Socket, Type};
use tokio::task::JoinHandle;

use super::until;

/// Source address of the flood, which no client shares.
pub(crate) const STRANGERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Number of connections after which the flood counts as begun.
const MANY: usize = 500;
/// Number of connections that a silent stranger holds at a time.
const HELD: usize = 100;
/// Bytes that are not TLS, and a TLS record with an invalid content.
const GARBAGE: [&[u8]; 2] = [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x04????"];

/// Flood of connections without pause, by one thread for each [`Habit`].
#[derive(Debug)]
pub(crate) struct Flood {
    goes_on: Arc<AtomicBool>,
    strangers: Vec<JoinHandle<()>>,
}

/// Behaviour of a stranger after it has connected.
#[derive(Debug, Clone, Copy)]
enum Habit {
    Leaves,
    Stays,
    Talks,
}

impl Flood {
    /// Begins the flood, and waits until more than [`MANY`] connections were made.
    pub(crate) async fn begin(gateway: SocketAddr) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let connected = Arc::new(AtomicUsize::new(0));
        let strangers = [Habit::Leaves, Habit::Stays, Habit::Talks].map(|habit| {
            let (goes_on, connected) = (Arc::clone(&goes_on), Arc::clone(&connected));
            tokio::task::spawn_blocking(move || knock(gateway, habit, &goes_on, &connected))
        });
        until(async || (connected.load(Relaxed) > MANY).then_some(())).await;
        Self {
            goes_on,
            strangers: strangers.into(),
        }
    }

    /// Ends the flood.
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

fn knock(gateway: SocketAddr, habit: Habit, goes_on: &AtomicBool, connected: &AtomicUsize) {
    let mut held = VecDeque::new();
    while goes_on.load(Relaxed) {
        // It is refused as soon as no process listens.
        let Ok(mut connection) = connect(gateway) else {
            continue;
        };
        let number = connected.fetch_add(1, Relaxed);
        match habit {
            Habit::Leaves => {}
            Habit::Stays => {
                held.push_back(connection);
                if held.len() > HELD {
                    held.pop_front();
                }
            }
            // It may have been reset already.
            Habit::Talks => drop(connection.write_all(GARBAGE[number % GARBAGE.len()])),
        }
    }
}

fn connect(gateway: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((STRANGERS, 0)).into())?;
    socket.connect(&gateway.into())?;
    Ok(socket.into())
}
