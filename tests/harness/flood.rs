//! Strangers who connect without pause: some leave at once, some say nothing, some talk garbage.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use socket2::{Domain, Socket, Type};
use tokio::task::JoinHandle;

use super::until;

/// Where they come from: no client shares it.
pub(crate) const STRANGERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How many connections make a flood.
const MANY: usize = 500;
/// How many connections one who says nothing has at once.
const HELD: usize = 100;
/// What is no TLS, and a record of TLS with garbage in it.
const GARBAGE: [&[u8]; 2] = [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x04????"];

/// Strangers who connect without pause, each on a thread of its own.
#[derive(Debug)]
pub(crate) struct Flood {
    goes_on: Arc<AtomicBool>,
    strangers: Vec<JoinHandle<()>>,
}

/// What a stranger does.
#[derive(Debug, Clone, Copy)]
enum Habit {
    Leaves,
    Stays,
    Talks,
}

impl Flood {
    /// Begins, and waits until it is one.
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

fn knock(gateway: SocketAddr, habit: Habit, goes_on: &AtomicBool, connected: &AtomicUsize) {
    let mut held = VecDeque::new();
    while goes_on.load(Relaxed) {
        // Refused as soon as nobody listens.
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
