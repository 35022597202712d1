//! An upstream that answers every line with its name, and can close or reset its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::until;

/// Treatment of the connections that an upstream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Serving,
    Resetting,
}

/// An upstream. It answers each line with its name and the line. The line `close` makes it close
/// the connection, `reset` makes it reset the connection, and `flood` makes it send without end. At
/// the end of its input it sends `bye` and closes.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    counts: Arc<Counts>,
    mood: watch::Sender<Mood>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    broken: AtomicUsize,
}

impl Upstream {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let (mood, moods) = watch::channel(Mood::Serving);
        let accepting = tokio::task::spawn(accept(name, listener, Arc::clone(&counts), moods));
        Self {
            address,
            counts,
            mood,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(SeqCst)
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(SeqCst)
    }

    /// Returns the number of connections that ended with an error.
    pub(crate) fn broken(&self) -> usize {
        self.counts.broken.load(SeqCst)
    }

    /// Stops accepting; open connections go on.
    pub(crate) async fn accept_no_more(&self) {
        self.accepting.abort();
        // The listener is closed when the task has ended.
        until(async || self.accepting.is_finished().then_some(())).await;
    }

    /// Resets every connection and stops accepting. Returns the address.
    pub(crate) async fn die(self) -> SocketAddr {
        self.mood.send_replace(Mood::Resetting);
        self.accepting.abort();
        // The listener is closed when the task has ended.
        drop(self.accepting.await);
        self.address
    }
}

async fn accept(
    name: &'static str,
    listener: TcpListener,
    counts: Arc<Counts>,
    moods: watch::Receiver<Mood>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        counts.accepted.fetch_add(1, SeqCst);
        counts.open.fetch_add(1, SeqCst);
        let (counts, mut moods) = (Arc::clone(&counts), moods.clone());
        tokio::task::spawn(async move {
            let mut stream = BufReader::new(stream);
            let ended = tokio::select! {
                ended = answer(name, &mut stream) => ended,
                _ = moods.wait_for(|mood| *mood == Mood::Resetting) => {
                    reset(stream.get_ref());
                    Ok(())
                }
            };
            if ended.is_err() {
                counts.broken.fetch_add(1, SeqCst);
            }
            counts.open.fetch_sub(1, SeqCst);
        });
    }
}

fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
}

async fn answer(name: &str, stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            stream.get_mut().write_all(b"bye\n").await?;
            return stream.get_mut().shutdown().await;
        }
        match line.trim_end() {
            "close" => return stream.get_mut().shutdown().await,
            "reset" => {
                reset(stream.get_ref());
                return Ok(());
            }
            "flood" => loop {
                stream.get_mut().write_all(&[b'x'; 16 * 1024]).await?;
            },
            said => {
                let answer = format!("{name}: {said}\n");
                stream.get_mut().write_all(answer.as_bytes()).await?;
            }
        }
    }
}
