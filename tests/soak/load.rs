//! The clients of a soak. Those of the steady group check every byte and must never be refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::figures::Figures;
use crate::harness::{Connection, Identity, Refusal, Returning, World, soon};

/// How many clients of each kind there are at a time.
const VISITORS: usize = 4;
const HOLDERS: usize = 8;
const GREEDY: usize = 6;
/// How many connections bob may have.
const LIMIT: usize = 4;
/// The longest line that is sent at once. It fills every buffer on the way.
const LONGEST_LINE: usize = 512 * 1024;
/// Time between two visits of one client, so that the load is steady and not all that there can be.
const PAUSE: Duration = Duration::from_millis(20);

/// All clients, until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What every client has.
#[derive(Debug, Clone)]
struct Visitor {
    gateway: SocketAddr,
    stopped: watch::Receiver<bool>,
    figures: Arc<Figures>,
}

impl Load {
    pub(crate) fn start(
        world: &World,
        gateway: SocketAddr,
        figures: &Arc<Figures>,
        minute: Duration,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let visitor = Visitor {
            gateway,
            stopped,
            figures: Arc::clone(figures),
        };
        let alice = world.identity("alice");
        for seed in 0..VISITORS {
            tasks.spawn(visitor.clone().visits(alice.clone(), seed));
        }
        for number in 0..HOLDERS {
            // Some are held through several upgrades, others through none.
            let held = minute * u32::try_from(1 + 4 * number).unwrap();
            tasks.spawn(visitor.clone().holds(alice.clone(), held));
        }
        let bob = (world.identity("bob"), Arc::new(AtomicUsize::new(0)));
        for _ in 0..GREEDY {
            tasks.spawn(visitor.clone().crowds(bob.clone()));
        }
        tasks.spawn(visitor.clone().returns(alice.returning()));
        tasks.spawn(visitor.clone().flaps(alice.clone()));
        tasks.spawn(visitor.clone().breaks_off(alice));
        tasks.spawn(visitor.knocks());
        Self { stop, tasks }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = soon(self.tasks.join_next()).await {
            ended.expect("a client does not panic");
        }
    }
}

/// A line of this length that is the same for the same seed.
fn line(seed: usize, length: usize) -> String {
    let letters = (0..length).map(|at| {
        let mixed = (seed ^ at.wrapping_mul(0x9e37_79b9)) % 26;
        char::from(b'a' + u8::try_from(mixed).unwrap_or(0))
    });
    letters.collect()
}

impl Visitor {
    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Has a line echoed and compares every byte.
    async fn echoes(&self, connection: &mut Connection, said: &str) -> bool {
        match connection.ask(said).await {
            Ok(answer) if answer.strip_prefix("db: ") == Some(said) => {
                let moved = u64::try_from(2 * said.len()).unwrap();
                self.figures.bytes.fetch_add(moved, Relaxed);
                true
            }
            Ok(answer) => {
                let length = answer.len();
                self.figures
                    .failed(format!("an echo of {length} bytes was altered"));
                false
            }
            Err(refusal) => {
                self.figures.failed(format!("an echo ended: {refusal:?}"));
                false
            }
        }
    }

    async fn leaves(&self, mut connection: Connection) {
        connection.finish().await;
        match connection.hear().await {
            Ok(bye) if bye == "bye" => {}
            other => self.figures.failed(format!("no last word: {other:?}")),
        }
    }

    async fn comes(&self, client: &Identity, length: usize, seed: usize) {
        match client.visit(self.gateway, "db").await {
            Ok(mut connection) => {
                Figures::add(&self.figures.connections);
                if self.echoes(&mut connection, &line(seed, length)).await {
                    self.leaves(connection).await;
                }
            }
            Err(refusal) => self
                .figures
                .failed(format!("a visitor was refused: {refusal:?}")),
        }
    }

    async fn visits(self, client: Identity, seed: usize) {
        let mut round = seed;
        while !self.is_stopped() {
            let length = if round.is_multiple_of(20) {
                LONGEST_LINE
            } else {
                1 + round % 4000
            };
            self.comes(&client, length, round).await;
            round += VISITORS;
            sleep(PAUSE).await;
        }
    }

    async fn holds(self, client: Identity, held: Duration) {
        while !self.is_stopped() {
            let Ok(mut connection) = client.visit(self.gateway, "db").await else {
                self.figures
                    .failed("a client that stays was refused".to_owned());
                continue;
            };
            Figures::add(&self.figures.connections);
            let end = Instant::now() + held;
            let mut whole = true;
            while whole && Instant::now() < end && !self.is_stopped() {
                whole = self.echoes(&mut connection, "still here").await;
                sleep(10 * PAUSE).await;
            }
            if whole {
                self.leaves(connection).await;
            }
        }
    }

    /// Wants more connections than it may have. As a client sees it, a connection is open from a
    /// moment after to a moment before the gateway says so, so it never sees more than the limit.
    async fn crowds(self, (bob, open): (Identity, Arc<AtomicUsize>)) {
        while !self.is_stopped() {
            match bob.visit(self.gateway, "db").await {
                Ok(mut connection) => {
                    Figures::add(&self.figures.connections);
                    if open.fetch_add(1, SeqCst) + 1 > LIMIT {
                        self.figures
                            .failed("a client exceeded its limit".to_owned());
                    }
                    let whole = self.echoes(&mut connection, "more").await;
                    sleep(PAUSE).await;
                    open.fetch_sub(1, SeqCst);
                    if whole {
                        self.leaves(connection).await;
                    }
                }
                Err(Refusal::Reset) => Figures::add(&self.figures.refusals),
                Err(other) => self
                    .figures
                    .failed(format!("over its limit, but: {other:?}")),
            }
            sleep(PAUSE).await;
        }
    }

    /// Comes back with tickets.
    async fn returns(self, alice: Returning) {
        while !self.is_stopped() {
            match alice.visit(self.gateway, "db").await {
                Ok(connection) => {
                    Figures::add(&self.figures.connections);
                    self.leaves(connection).await;
                }
                Err(refusal) => self.figures.failed(format!("with a ticket: {refusal:?}")),
            }
            sleep(PAUSE).await;
        }
    }

    /// Goes to the upstream that dies and comes back: served or reset, and nothing else.
    async fn flaps(self, client: Identity) {
        while !self.is_stopped() {
            match client.visit(self.gateway, "flap").await {
                Ok(_) => Figures::add(&self.figures.connections),
                Err(Refusal::Reset) => Figures::add(&self.figures.refusals),
                Err(other) => self
                    .figures
                    .failed(format!("the upstream is down, but: {other:?}")),
            }
            sleep(PAUSE).await;
        }
    }

    /// Leaves in the midst of a transfer.
    async fn breaks_off(self, client: Identity) {
        while !self.is_stopped() {
            if let Ok(mut connection) = client.visit(self.gateway, "db").await {
                Figures::add(&self.figures.connections);
                connection.say("flood").await.ok();
                connection.hear_some().await;
            }
            sleep(5 * PAUSE).await;
        }
    }

    /// Comes without TLS: says nothing, or something else, or leaves at once.
    async fn knocks(self) {
        let words: [&[u8]; 4] = [
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02",
            b"SSH-2.0-x\r\n",
        ];
        for word in words.iter().cycle() {
            if self.is_stopped() {
                return;
            }
            if let Ok(mut socket) = TcpStream::connect(self.gateway).await {
                socket.write_all(word).await.ok();
                let mut answer = [0; 100];
                // An answer, an end or silence: none of them lets anybody in.
                drop(timeout(PAUSE, socket.read(&mut answer)).await);
                SockRef::from(&socket).set_linger(Some(Duration::ZERO)).ok();
                Figures::add(&self.figures.refusals);
            }
            sleep(PAUSE).await;
        }
    }
}
