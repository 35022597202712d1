//! A client with a certificate, and the sockets of those that have none.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certgen::{Authority, IssuedCertificate};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::soon;

/// A client that can prove who it is.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// The client with this certificate.
    pub(crate) fn of(authority: &Authority, issued: &IssuedCertificate) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate_der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![issued.certificate_der()], issued.key_der())
            .unwrap();
        Self(Arc::new(config))
    }

    /// The same client, offering a protocol.
    pub(crate) fn offering(&self, protocol: &str) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![protocol.into()];
        Self(Arc::new(config))
    }

    /// Takes a connection through the handshake.
    pub(crate) async fn greet(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("db").unwrap();
        TlsConnector::from(Arc::clone(&self.0))
            .connect(name, socket)
            .await
    }

    /// Connects, has something echoed and stays.
    pub(crate) async fn stay(&self, gateway: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = self.greet(TcpStream::connect(gateway).await?).await?;
        stream.write_all(b"hello").await?;
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await?;
        assert_eq!(&echo, b"hello");
        Ok(stream)
    }

    /// Connects, has something echoed and leaves as one should.
    pub(crate) async fn visit(&self, gateway: SocketAddr) -> io::Result<()> {
        soon(async {
            let mut stream = self.stay(gateway).await?;
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await?;
            Ok(())
        })
        .await
    }

    /// The bytes that it says first.
    pub(crate) fn hello(&self, name: &str) -> Vec<u8> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        hello
    }
}

/// Connects from one of many addresses of this machine.
pub(crate) async fn connect_from(host: u8, gateway: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, host], 0).into())?;
    socket.connect(gateway).await
}

/// Ends a connection at once when it is dropped.
pub(crate) fn reset_on_drop(socket: &TcpStream) {
    let at_once = Some(Duration::ZERO);
    SockRef::from(socket).set_linger(at_once).unwrap();
}

/// Reads until the connection ends, and says whether it was reset: perhaps so soon that connecting
/// already tells.
pub(crate) async fn was_reset(connected: io::Result<TcpStream>) -> bool {
    let end = match connected {
        Ok(mut socket) => soon(socket.read_to_end(&mut Vec::new())).await,
        Err(error) => Err(error),
    };
    end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}
