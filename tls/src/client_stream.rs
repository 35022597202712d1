//! The client's side of a relay: a TLS stream that can be aborted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::record_layer::{RecordError, RecordLayer};
use crate::socket::reset;

mod buffers;

use buffers::{IncomingRecords, OutgoingRecords};

/// A client's TLS stream after its handshake, over a socket and a [`RecordLayer`].
///
/// A read of 0 bytes means the client's `close_notify`; an end of the socket without it is an
/// error. A violation of the protocol by the client is answered with the matching alert, if the
/// socket takes it at once.
#[derive(Debug)]
pub struct ClientStream {
    socket: TcpStream,
    session: RecordLayer,
    incoming: IncomingRecords,
    outgoing: OutgoingRecords,
    /// True once a `close_notify` was sent or is being sent.
    is_closed: bool,
    /// True if an alert for a violation of the protocol was sent to the client.
    misbehaved: bool,
}

impl ClientStream {
    /// Creates the stream of a client after its handshake.
    ///
    /// `early` are the bytes received after the client's last handshake message, at most
    /// [`MOST_PENDING_KIB`](crate::hello_limits::MOST_PENDING_KIB). `late` are the bytes of the
    /// handshake that were not sent yet (a session ticket); they are sent with the first data.
    pub fn new(socket: TcpStream, session: RecordLayer, early: &[u8], late: &[u8]) -> Self {
        Self {
            socket,
            session,
            incoming: IncomingRecords::new(early),
            outgoing: OutgoingRecords::new(late),
            is_closed: false,
            misbehaved: false,
        }
    }

    /// Returns the socket if an alert for a violation of the protocol was sent to the client. Keep
    /// the socket open for a while, so that the client can read the alert: a reset would overtake
    /// it.
    pub fn into_misbehaved_socket(self) -> Option<TcpStream> {
        self.misbehaved.then_some(self.socket)
    }

    /// Waits until the client is gone, without reading its data. Cancel safe. A client that has
    /// ended its stream is probed with empty records to see if it still reads.
    pub async fn left(&mut self) {
        // The end of the client's stream and a reset make the socket ready, data does not.
        let end = self.socket.ready(Interest::PRIORITY | Interest::ERROR);
        if end.await.is_ok() {
            peer::left(self).await;
        }
    }

    /// Sends the alert that matches `error`, if the socket takes it now: the connection is lost in
    /// any case.
    fn tell(&mut self, cx: &mut Context<'_>, error: RecordError) {
        if let Some(alert) = error.alert()
            && self.outgoing.is_empty()
            && self.seal_alert(alert).is_ok()
        {
            let sent = self.outgoing.poll_send(&mut self.socket, cx);
            self.misbehaved = matches!(sent, Poll::Ready(Ok(())));
        }
    }

    fn seal_alert(&mut self, alert: AlertDescription) -> io::Result<()> {
        let session = &mut self.session;
        self.outgoing
            .fill(|room| Ok(((), session.seal_alert(alert, room)?)))
    }
}

impl peer::Downstream for ClientStream {
    /// Resets the connection. Neither a `close_notify` nor a FIN is sent, so that the client cannot
    /// take the data that it has for complete (RFC 9846, 6.1).
    fn abort(&mut self) {
        reset(&self.socket);
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    /// Sends an empty record of application data, which a client ignores (RFC 9846, 5.1).
    fn nudge(&mut self, cx: &mut Context<'_>) {
        if self.is_closed || !self.outgoing.is_empty() {
            return;
        }
        let session = &mut self.session;
        let sealed = self
            .outgoing
            .fill(|room| Ok(((), session.seal_nothing(room)?)));
        if sealed.is_ok() {
            // Bytes that the socket does not take now are sent with the next data; an error there
            // shows that the client is gone.
            drop(self.outgoing.poll_send(&mut self.socket, cx));
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (incoming, socket) = (&mut this.incoming, &mut this.socket);
        ready!(incoming.poll_data(&mut this.session, socket, cx, room))?
            .map_err(|error| {
                this.tell(cx, error);
                error.into()
            })
            .into()
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_send(&mut this.socket, cx))?;
        let session = &mut this.session;
        let taken = this.outgoing.fill(|room| session.seal(bytes, room))?;
        match this.outgoing.poll_send(&mut this.socket, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Bytes that the socket does not take now are sent with the next call.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.outgoing.poll_send(&mut this.socket, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_send(&mut this.socket, cx))?;
        if !this.is_closed {
            this.is_closed = true;
            this.seal_alert(AlertDescription::CloseNotify)?;
            ready!(this.outgoing.poll_send(&mut this.socket, cx))?;
        }
        if this.incoming.has_ended() {
            // Both sides have ended their streams: the socket is closed at once.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::ClientConnection;
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{Duration, timeout};

    use super::*;
    use crate::record_layer::test_support::{hear, pair, say};

    /// A client's stream, and the client: its TLS and its socket.
    async fn stream() -> (ClientStream, ClientConnection, TcpStream) {
        let (session, client) = pair(TLS13_AES_128_GCM_SHA256);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        let stream = ClientStream::new(accepted.unwrap().0, session, &[], &[]);
        (stream, client, connected.unwrap())
    }

    #[tokio::test]
    async fn a_record_in_part_takes_as_much_memory_as_it_has_bytes() {
        let (mut stream, mut client, mut socket) = stream().await;
        let record = say(&mut client, &[7; 16_000]);
        let mut room = vec![0; 64 * 1024];
        for (from, to) in [(0, 3), (3, 7), (7, 9_000), (9_000, record.len() - 1)] {
            socket.write_all(&record[from..to]).await.unwrap();
            // Until all of it has come, or for ever.
            while stream.incoming.kept().len() < to {
                stream.socket.readable().await.unwrap();
                let now = std::future::ready(());
                tokio::select! { biased; _ = stream.read(&mut room) => panic!("it is not whole"), () = now => {} }
            }
            assert_eq!(stream.incoming.kept(), &record[..to]);
            assert!(!stream.incoming.has_buffer());
        }
        socket.write_all(&record[record.len() - 1..]).await.unwrap();
        assert_eq!(stream.read(&mut room).await.unwrap(), 16_000);
        assert!(stream.incoming.kept().is_empty());
    }

    /// What comes until the end, read in pieces of at most `size` bytes.
    async fn all_of(stream: &mut ClientStream, size: usize) -> Vec<u8> {
        let (mut all, mut room) = (Vec::new(), vec![0; size]);
        loop {
            match stream.read(&mut room).await.unwrap() {
                0 => return all,
                read => all.extend_from_slice(&room[..read]),
            }
        }
    }

    #[tokio::test]
    async fn it_can_be_read_in_pieces_of_any_size() {
        for size in [1, 7, 1000, 16_384, 16_645, 40_000] {
            let (mut stream, mut client, mut socket) = stream().await;
            let said: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
            let mut sent = say(&mut client, &said);
            client.send_close_notify();
            sent.extend(say(&mut client, b""));
            let read = all_of(&mut stream, size);
            let (written, heard) = tokio::join!(socket.write_all(&sent), read);
            written.unwrap();
            assert!(heard == said, "{size}");
        }
    }

    #[tokio::test]
    async fn data_before_an_error_is_read_and_the_client_is_told() {
        let (mut stream, mut client, mut socket) = stream().await;
        let mut sent = say(&mut client, b"good");
        let bad = sent.len() + 10;
        sent.extend(say(&mut client, b"bad"));
        sent[bad] ^= 1;
        socket.write_all(&sent).await.unwrap();
        let mut room = vec![0; 100_000];
        assert_eq!(stream.read(&mut room).await.unwrap(), 4);
        for _ in 0..2 {
            let error = stream.read(&mut room).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let mut told = [0; 100];
        let read = timeout(Duration::from_secs(20), socket.read(&mut told)).await;
        let length = read.expect("the client is told").unwrap();
        client.read_tls(&mut &told[..length]).unwrap();
        assert_eq!(
            client.process_new_packets().unwrap_err(),
            rustls::Error::AlertReceived(AlertDescription::BadRecordMac)
        );
    }

    #[tokio::test]
    async fn what_follows_the_end_takes_no_memory() {
        let (mut stream, mut client, mut socket) = stream().await;
        let mut sent = say(&mut client, b"good");
        client.send_close_notify();
        sent.extend(say(&mut client, b""));
        sent.extend([7; 10_000]);
        socket.write_all(&sent).await.unwrap();
        let mut room = vec![0; 64 * 1024];
        assert_eq!(stream.read(&mut room).await.unwrap(), 4);
        assert_eq!(stream.read(&mut room).await.unwrap(), 0);
        assert!(stream.incoming.kept().is_empty());
        assert!(!stream.incoming.has_buffer());
    }

    #[tokio::test]
    async fn an_end_that_was_not_sealed_is_an_error() {
        let (mut stream, mut client, mut socket) = stream().await;
        let sent = say(&mut client, b"good");
        socket.write_all(&sent).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut room = [0; 100];
        assert_eq!(stream.read(&mut room).await.unwrap(), 4);
        let error = stream.read(&mut room).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_slow_reader_gets_everything_and_then_the_end() {
        let (mut stream, mut client, mut socket) = stream().await;
        let said: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let write = async {
            stream.write_all(&said).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(stream.outgoing.is_empty());
        };
        let read = async {
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), sent) = tokio::join!(write, read);
        assert!(hear(&mut client, &sent) == said);
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }
}
