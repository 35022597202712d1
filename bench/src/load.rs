//! The load: what clients do, and how long it takes them.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certs;
use crate::fallible::Fallible;
use crate::upstream::{BOTH, ECHO, SINK, SOURCE};

const MESSAGE: usize = 64;
const BLOCK: usize = 64 << 10;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Connect, one byte there and back, close; each with a whole handshake.
    Handshakes,
    /// The same with a ticket of the connection before, where the gateway gives any.
    Resumed,
    /// 64 bytes there and back, again and again.
    PingPong,
    /// The same, 2,000 times a second over all connections.
    Rate,
    /// Send as fast as it goes.
    Up,
    /// Receive as fast as it goes.
    Down,
    /// Both at once.
    Both,
    /// Send 64 KiB there and back, then be silent until told to end.
    Idle,
    /// Connect and never say a word until told to end.
    Silent,
    /// All connect at the same moment; one byte there and back.
    Herd,
    /// Connect, send and check some bytes, break off or end.
    Churn,
    /// Connect without a certificate.
    Stranger,
}

/// How much of what.
#[derive(Debug, Args)]
pub(crate) struct Load {
    pub(crate) mode: Mode,
    pub(crate) gateway: SocketAddr,
    pub(crate) certs: PathBuf,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Connections, round trips or blocks, by the mode.
    pub(crate) operations: usize,
    /// How many of the handshakes were resumed.
    pub(crate) resumed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// Bytes through the gateway.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Of one operation, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What one client did.
#[derive(Debug, Default)]
struct Tally {
    times: Vec<Duration>,
    resumed: usize,
    failed: usize,
    bytes: u64,
}

/// A client, whose every connection has a whole handshake or resumes the one before.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    gateway: SocketAddr,
}

impl Client {
    /// A client that shows its certificate each time.
    pub(crate) fn new(certs: &Path, gateway: SocketAddr) -> Fallible<Self> {
        let config = certs::client(certs, true, false)?;
        Ok(Self { config, gateway })
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.gateway).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(certs::SERVER).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, socket).await
    }

    /// One connection: the handshake, one byte there and back, the end.
    async fn visit(&self) -> io::Result<bool> {
        let mut stream = self.connect().await?;
        stream.write_all(&[ECHO, b'x']).await?;
        stream.read_u8().await?;
        let kind = stream.get_ref().1.handshake_kind();
        stream.shutdown().await?;
        Ok(kind == Some(HandshakeKind::Resumed))
    }

    /// The same, waiting for the gateway's end.
    pub(crate) async fn visit_to_the_end(&self) -> io::Result<()> {
        let mut stream = self.connect().await?;
        stream.write_all(&[ECHO, b'x']).await?;
        stream.read_u8().await?;
        stream.shutdown().await?;
        match stream.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Makes the load, and prints the outcome as a line of JSON.
pub(crate) fn run(load: &Load) -> Fallible<()> {
    let client = Client {
        config: certs::client(
            &load.certs,
            load.mode != Mode::Stranger,
            load.mode == Mode::Resumed,
        )?,
        gateway: load.gateway,
    };
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match load.mode {
            Mode::Idle | Mode::Silent => hold(load, &client).await,
            Mode::Handshakes
            | Mode::Resumed
            | Mode::PingPong
            | Mode::Rate
            | Mode::Up
            | Mode::Down
            | Mode::Both
            | Mode::Herd
            | Mode::Churn
            | Mode::Stranger => press(load, &client).await,
        }
    })?;
    println!("{}", serde_json::to_string(&outcome)?);
    runtime.shutdown_background();
    Ok(())
}

async fn press(load: &Load, client: &Client) -> Fallible<Outcome> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(load.seconds);
    let mut clients = JoinSet::new();
    for number in 0..load.connections {
        let (client, mode, all) = (client.clone(), load.mode, load.connections);
        clients.spawn(async move {
            match mode {
                Mode::PingPong => ping(&client, end, None).await,
                Mode::Rate => {
                    let pace = Duration::from_secs_f64(
                        f64::from(u32::try_from(all).unwrap_or(1)) / 2000.0,
                    );
                    let offset = pace.mul_f64(number as f64 / all as f64);
                    ping(&client, end, Some((offset, pace))).await
                }
                Mode::Up => stream(&client, SINK, end).await,
                Mode::Down => stream(&client, SOURCE, end).await,
                Mode::Both => stream(&client, BOTH, end).await,
                Mode::Herd => Ok(visits(&client, begin).await),
                Mode::Churn => churn(&client, number, end).await,
                Mode::Handshakes | Mode::Resumed | Mode::Stranger | Mode::Idle | Mode::Silent => {
                    Ok(visits(&client, end).await)
                }
            }
        });
    }
    let mut sum = Tally::default();
    while let Some(tally) = clients.join_next().await {
        match tally? {
            Ok(tally) => sum.add(tally),
            Err(_) => sum.failed += 1,
        }
    }
    Ok(sum.outcome(begin.elapsed()))
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.resumed += other.resumed;
        self.failed += other.failed;
        self.bytes += other.bytes;
    }

    fn outcome(mut self, took: Duration) -> Outcome {
        self.times.sort_unstable();
        let at = |percent: usize| {
            let last = self.times.len().saturating_sub(1);
            let time = self.times.get(last * percent / 100);
            time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Outcome {
            operations: self.times.len(),
            resumed: self.resumed,
            failed: self.failed,
            bytes: self.bytes,
            seconds: took.as_secs_f64(),
            p50: at(50),
            p99: at(99),
        }
    }
}

/// Visits again and again until the end, once at least.
async fn visits(client: &Client, end: Instant) -> Tally {
    let mut tally = Tally::default();
    loop {
        let begin = Instant::now();
        match timeout(PATIENCE, client.visit()).await {
            Ok(Ok(resumed)) => {
                tally.times.push(begin.elapsed());
                tally.resumed += usize::from(resumed);
            }
            Ok(Err(_)) | Err(_) => tally.failed += 1,
        }
        if Instant::now() >= end {
            return tally;
        }
    }
}

async fn ping(
    client: &Client,
    end: Instant,
    pace: Option<(Duration, Duration)>,
) -> io::Result<Tally> {
    let mut stream = client.connect().await?;
    stream.write_all(&[ECHO]).await?;
    let message = [b'x'; MESSAGE];
    let mut answer = [0; MESSAGE];
    let mut ticks = pace.map(|(offset, pace)| {
        let mut ticks = interval_at(tokio::time::Instant::now() + offset, pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        ticks
    });
    let mut tally = Tally::default();
    while Instant::now() < end {
        // At a fixed rate an answer is late from the moment that its question was due.
        let begin = match &mut ticks {
            Some(ticks) => ticks.tick().await.into_std(),
            None => Instant::now(),
        };
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        tally.times.push(begin.elapsed());
    }
    tally.bytes = (tally.times.len() * MESSAGE * 2) as u64;
    Ok(tally)
}

async fn stream(client: &Client, kind: u8, end: Instant) -> io::Result<Tally> {
    let mut stream = client.connect().await?;
    stream.write_all(&[kind]).await?;
    let (mut read, mut write) = tokio::io::split(stream);
    let (mut sent, mut received) = (0, 0);
    let sending = async {
        let block = vec![b'x'; BLOCK];
        while kind != SOURCE && Instant::now() < end {
            write.write_all(&block).await?;
            sent += BLOCK as u64;
        }
        Ok::<_, io::Error>(())
    };
    let receiving = async {
        let mut block = vec![0; BLOCK];
        while kind != SINK && Instant::now() < end {
            received += read.read(&mut block).await? as u64;
        }
        Ok::<_, io::Error>(())
    };
    tokio::try_join!(sending, receiving)?;
    Ok(Tally {
        times: vec![Duration::ZERO],
        bytes: sent + received,
        ..Tally::default()
    })
}

/// Half of the connections end well, the others are broken off; every byte is checked.
async fn churn(client: &Client, number: usize, end: Instant) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut round = number;
    while Instant::now() < end {
        let begin = Instant::now();
        let mut stream = client.connect().await?;
        stream.write_all(&[ECHO]).await?;
        let length = 1 + round * 7919 % 20_000;
        let sent: Vec<u8> = (0..length)
            .map(|n| (n * 31 + round).to_le_bytes()[0])
            .collect();
        stream.write_all(&sent).await?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        tally.failed += usize::from(answer != sent);
        if round.is_multiple_of(2) {
            stream.shutdown().await?;
        }
        tally.bytes += 2 * length as u64;
        tally.times.push(begin.elapsed());
        round += 1;
    }
    Ok(tally)
}

/// Opens connections, says so, and keeps them until the standard input ends.
async fn hold(load: &Load, client: &Client) -> Fallible<Outcome> {
    let begin = Instant::now();
    let mut silent = Vec::new();
    let mut idle = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..load.connections {
        let client = client.clone();
        if load.mode == Mode::Silent {
            silent.push(TcpStream::connect(load.gateway).await?);
            continue;
        }
        opening.spawn(async move {
            let mut stream = client.connect().await?;
            stream.write_all(&[ECHO]).await?;
            let block = vec![number.to_le_bytes()[0]; BLOCK];
            let (mut read, mut write) = tokio::io::split(stream);
            let mut answer = vec![0; BLOCK];
            tokio::try_join!(write.write_all(&block), read.read_exact(&mut answer))?;
            Ok::<_, io::Error>(read.unsplit(write))
        });
        // As many as are served without a queue.
        if opening.len() >= 32
            && let Some(opened) = opening.join_next().await
        {
            idle.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        idle.push(opened??);
    }
    let outcome = Outcome {
        operations: silent.len() + idle.len(),
        seconds: begin.elapsed().as_secs_f64(),
        ..Outcome::default()
    };
    println!("{}", serde_json::to_string(&outcome)?);
    io::stdout().flush()?;
    let mut nothing = Vec::new();
    // Nobody else runs on this thread.
    io::stdin().lock().read_to_end(&mut nothing)?;
    Ok(outcome)
}
