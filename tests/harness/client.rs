//! TLS clients of the tests, their connections, and the errors with which the gateway refuses them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use certgen::{Authority, IssuedCertificate};
use parking_lot::Mutex;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, NamedGroup, RootCertStore,
    SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::soon;
use super::wire::{Cutting, Wire};

/// Identity of a client: its certificate and key, or none, and its TLS settings.
#[derive(Debug, Clone)]
pub(crate) struct Identity(Arc<ClientConfig>);

impl Identity {
    /// Creates a client with a certificate that `certgen` issued.
    pub(crate) fn of(authority: &Authority, issued: &IssuedCertificate) -> Self {
        Self(Arc::new(
            Self::builder(authority)
                .with_client_auth_cert(vec![issued.certificate_der()], issued.key_der())
                .unwrap(),
        ))
    }

    /// Creates a client with an arbitrary certificate in DER.
    pub(crate) fn of_der(
        authority: &rcgen::Certificate,
        certificate: Vec<u8>,
        key: &rcgen::KeyPair,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Self::showing(roots, CertifiedKey::new(vec![certificate.into()], key))
    }

    /// Creates a client without a certificate.
    pub(crate) fn nobody() -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// Creates a client with a certificate that is followed by the certificates of `chain`.
    pub(crate) fn with_chain(issued: &IssuedCertificate, chain: &[&Authority]) -> Self {
        let mut shown = vec![issued.certificate_der()];
        shown.extend(chain.iter().map(|one| one.certificate_der().clone()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&issued.key_der()).unwrap();
        Self::showing(RootCertStore::empty(), CertifiedKey::new(shown, key))
    }

    /// Creates a client that presents one client's certificate and signs with the key of another.
    pub(crate) fn thief(certificate: &IssuedCertificate, key: &IssuedCertificate) -> Self {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key.key_der()).unwrap();
        let shown = CertifiedKey::new(vec![certificate.certificate_der()], key);
        Self::showing(RootCertStore::empty(), shown)
    }

    fn showing(roots: RootCertStore, certified: CertifiedKey) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Self(Arc::new(config))
    }

    /// Creates a client that offers these cipher suites in this order.
    pub(crate) fn preferring(issued: &IssuedCertificate, suites: &[SupportedCipherSuite]) -> Self {
        let provider = CryptoProvider {
            cipher_suites: suites.to_vec(),
            ..default_provider()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(vec![issued.certificate_der()], issued.key_der());
        Self(Arc::new(config.unwrap()))
    }

    /// Creates a copy of this client whose own certificate is followed by `junk`, `times` times.
    pub(crate) fn followed_by(&self, junk: &CertificateDer<'static>, times: usize) -> Self {
        let own = self.0.client_auth_cert_resolver.resolve(&[], &[]).unwrap();
        let mut chain = own.cert.clone();
        chain.extend(std::iter::repeat_n(junk.clone(), times));
        let certified = CertifiedKey::new(chain, Arc::clone(&own.key));
        Self::showing(RootCertStore::empty(), certified)
    }

    /// Connects, sends a line and waits for the answer, as [`Self::visit`]. Returns the client's
    /// address even if the gateway refuses it.
    pub(crate) async fn try_visit(
        &self,
        gateway: SocketAddr,
        sni: &str,
    ) -> (Result<Connection, Refusal>, String) {
        let socket = TcpStream::connect(gateway).await.unwrap();
        let source = socket.local_addr().unwrap().to_string();
        let visited = async {
            let mut connection = self.over(socket, sni, Wire::Straight).await?;
            connection.ask("hello").await?;
            Ok(connection)
        };
        (visited.await, source)
    }

    /// Creates a copy of this client that offers these protocols by ALPN.
    pub(crate) fn offering(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Self(Arc::new(config))
    }

    fn builder(
        authority: &Authority,
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate_der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
    }

    /// Connects with this SNI name, which the gateway's certificate need not contain.
    pub(crate) async fn connect(
        &self,
        gateway: SocketAddr,
        sni: &str,
    ) -> Result<Connection, Refusal> {
        let socket = soon(TcpStream::connect(gateway)).await?;
        self.over(socket, sni, Wire::Straight).await
    }

    /// Returns the TLS configuration and server name of a connection that accepts any certificate
    /// of the gateway.
    fn side(&self, sni: &str) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut config = (*self.0).clone();
        let verifier = Arc::new(anyone::Anyone);
        config.dangerous().set_certificate_verifier(verifier);
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        (Arc::new(config), name)
    }

    /// Creates the client's side of a TLS session without a socket.
    pub(crate) fn session(&self, sni: &str) -> ClientConnection {
        let (config, name) = self.side(sni);
        ClientConnection::new(config, name).unwrap()
    }

    /// Performs the handshake over a connected socket.
    pub(crate) async fn over(
        &self,
        socket: TcpStream,
        sni: &str,
        wire: Wire,
    ) -> Result<Connection, Refusal> {
        let (config, name) = self.side(sni);
        Connection::make(config, name, socket, wire).await
    }

    /// Creates a copy of this client that keeps the session tickets it receives and presents the
    /// newest to any server.
    pub(crate) fn returning(&self) -> Returning {
        let (config, _) = self.side("any");
        let mut config = (*config).clone();
        config.resumption = Resumption::store(Arc::new(Wallet::default()));
        Returning(Arc::new(config))
    }

    /// Connects over a wire that changes the bytes that are sent.
    pub(crate) async fn over_wire(
        &self,
        gateway: SocketAddr,
        sni: &str,
        wire: Wire,
    ) -> Result<Connection, Refusal> {
        let socket = soon(TcpStream::connect(gateway)).await?;
        self.over(socket, sni, wire).await
    }

    /// Connects, sends a line and waits for the answer: only then has the gateway admitted the
    /// client.
    pub(crate) async fn visit(
        &self,
        gateway: SocketAddr,
        sni: &str,
    ) -> Result<Connection, Refusal> {
        let mut connection = self.connect(gateway, sni).await?;
        connection.ask("hello").await?;
        Ok(connection)
    }
}

/// TLS connection of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TlsStream<Cutting>>,
    pub(crate) source: SocketAddr,
}

/// Client that resumes sessions with the tickets it has received.
#[derive(Debug, Clone)]
pub(crate) struct Returning(Arc<ClientConfig>);

impl Returning {
    /// Connects, sends a line and waits for the answer.
    pub(crate) async fn visit(
        &self,
        gateway: SocketAddr,
        sni: &str,
    ) -> Result<Connection, Refusal> {
        let socket = soon(TcpStream::connect(gateway)).await?;
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let config = Arc::clone(&self.0);
        let mut connection = Connection::make(config, name, socket, Wire::Straight).await?;
        connection.ask("hello").await?;
        Ok(connection)
    }

    /// Creates the client's side of a TLS session without a socket.
    pub(crate) fn session(&self, sni: &str) -> ClientConnection {
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        ClientConnection::new(Arc::clone(&self.0), name).unwrap()
    }
}

/// Store of the received tickets; the newest is presented first, to any server.
#[derive(Debug, Default)]
struct Wallet(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Wallet {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().pop()
    }
}

/// Way in which a connection was refused or ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A TLS alert was received.
    Alert(AlertDescription),
    /// The connection was reset.
    Reset,
    /// The connection was closed without `close_notify`.
    Truncated,
    /// The connection was closed by `close_notify`.
    Closed,
    /// Any other error.
    Other(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(rustls::Error::AlertReceived(alert)), _) => Self::Alert(*alert),
            (None, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Self::Reset,
            (None, io::ErrorKind::UnexpectedEof) => Self::Truncated,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl Connection {
    async fn make(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        socket: TcpStream,
        wire: Wire,
    ) -> Result<Self, Refusal> {
        let source = socket.local_addr()?;
        let connecting = TlsConnector::from(config).connect(name, Cutting::new(socket, wire));
        let stream = BufReader::new(soon(connecting).await?);
        Ok(Self { stream, source })
    }

    /// Sends a line and reads the answer.
    pub(crate) async fn ask(&mut self, line: &str) -> Result<String, Refusal> {
        self.say(line).await?;
        self.hear().await
    }

    /// Sends a line.
    pub(crate) async fn say(&mut self, line: &str) -> Result<(), Refusal> {
        soon(
            self.stream
                .get_mut()
                .write_all(format!("{line}\n").as_bytes()),
        )
        .await?;
        Ok(soon(self.stream.get_mut().flush()).await?)
    }

    /// Reads a line.
    pub(crate) async fn hear(&mut self) -> Result<String, Refusal> {
        let mut line = String::new();
        if soon(self.stream.read_line(&mut line)).await? == 0 {
            return Err(Refusal::Closed);
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads up to 4 KiB and ignores the result.
    pub(crate) async fn hear_some(&mut self) {
        let mut some = [0; 4096];
        drop(soon(self.stream.read(&mut some)).await);
    }

    /// Returns the name of the upstream that answers.
    pub(crate) async fn upstream(&mut self) -> String {
        let answer = self.ask("who").await.unwrap();
        answer.split(':').next().unwrap().to_owned()
    }

    /// Sends `close_notify` and shuts down the sending side of the socket.
    pub(crate) async fn finish(&mut self) {
        soon(self.stream.get_mut().shutdown()).await.unwrap();
    }

    /// Sends `close_notify`, and leaves the socket open.
    pub(crate) async fn say_goodbye(&mut self) {
        let (socket, session) = self.stream.get_mut().get_mut();
        session.send_close_notify();
        let mut sealed = Vec::new();
        session.write_tls(&mut sealed).unwrap();
        soon(socket.write_all(&sealed)).await.unwrap();
    }

    /// Reads until the connection ends, and returns the way in which it ended.
    pub(crate) async fn end(&mut self) -> Refusal {
        let mut rest = Vec::new();
        match soon(self.stream.read_to_end(&mut rest)).await {
            Ok(_) => Refusal::Closed,
            Err(error) => error.into(),
        }
    }

    /// Returns the protocol that ALPN selected; empty if there is none.
    pub(crate) fn alpn(&self) -> &str {
        let chosen = self.stream.get_ref().get_ref().1.alpn_protocol();
        std::str::from_utf8(chosen.unwrap_or_default()).unwrap()
    }

    /// Returns the gateway's certificate in DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let shown = self.stream.get_ref().get_ref().1.peer_certificates();
        shown.unwrap()[0].to_vec()
    }

    /// Returns the negotiated cipher suite.
    pub(crate) fn suite(&self) -> CipherSuite {
        let chosen = self.stream.get_ref().get_ref().1.negotiated_cipher_suite();
        chosen.unwrap().suite()
    }

    /// Returns the kind of the handshake: full or resumed.
    pub(crate) fn handshake(&self) -> rustls::HandshakeKind {
        self.stream.get_ref().get_ref().1.handshake_kind().unwrap()
    }

    /// Returns the number of session tickets received.
    pub(crate) fn tickets(&self) -> u32 {
        self.stream.get_ref().get_ref().1.tls13_tickets_received()
    }

    /// Requests a key update: the client changes its key before the next record, and asks for the
    /// same in return (RFC 9846 4.7.3).
    pub(crate) fn refresh_key(&mut self) {
        let session = self.stream.get_mut().get_mut().1;
        session.refresh_traffic_keys().unwrap();
    }

    /// Corrupts the last byte of each write from now on, after encryption.
    pub(crate) fn tamper(&mut self) {
        self.stream.get_mut().get_mut().0.wire = Wire::Tampered;
    }

    /// Returns the number of bytes received, with those of TLS itself.
    pub(crate) fn heard(&self) -> usize {
        self.stream.get_ref().get_ref().0.heard
    }

    /// Returns the socket below TLS.
    pub(crate) fn socket(&mut self) -> &mut Cutting {
        self.stream.get_mut().get_mut().0
    }
}

mod anyone {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    /// Accepts the certificate of any gateway: these tests are about clients.
    #[derive(Debug)]
    pub(super) struct Anyone;

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
