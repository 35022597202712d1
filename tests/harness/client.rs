//! A client with its certificate, its connections, and what it is told when it is refused.

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

/// What a client needs to connect.
#[derive(Debug, Clone)]
pub(crate) struct Identity(Arc<ClientConfig>);

impl Identity {
    /// A client with this certificate.
    pub(crate) fn of(authority: &Authority, issued: &IssuedCertificate) -> Self {
        Self(Arc::new(
            Self::builder(authority)
                .with_client_auth_cert(vec![issued.certificate_der()], issued.key_der())
                .unwrap(),
        ))
    }

    /// A client with a certificate that may be anything.
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

    /// A client without a certificate.
    pub(crate) fn nobody() -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// A client with a certificate and what is shown behind it.
    pub(crate) fn with_chain(issued: &IssuedCertificate, chain: &[&Authority]) -> Self {
        let mut shown = vec![issued.certificate_der()];
        shown.extend(chain.iter().map(|one| one.certificate_der().clone()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&issued.key_der()).unwrap();
        Self::showing(RootCertStore::empty(), CertifiedKey::new(shown, key))
    }

    /// A client who shows somebody's certificate and has another's key.
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

    /// A client whose processor does these suites best, in this order.
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

    /// The same client, with a certificate behind its own so many times.
    pub(crate) fn followed_by(&self, junk: &CertificateDer<'static>, times: usize) -> Self {
        let own = self.0.client_auth_cert_resolver.resolve(&[], &[]).unwrap();
        let mut chain = own.cert.clone();
        chain.extend(std::iter::repeat_n(junk.clone(), times));
        let certified = CertifiedKey::new(chain, Arc::clone(&own.key));
        Self::showing(RootCertStore::empty(), certified)
    }

    /// Visits, and tells where from in any case.
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

    /// The same client, offering these protocols.
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

    /// Connects and asks for a name, which the gateway's certificate need not have.
    pub(crate) async fn connect(
        &self,
        gateway: SocketAddr,
        sni: &str,
    ) -> Result<Connection, Refusal> {
        let socket = soon(TcpStream::connect(gateway)).await?;
        self.over(socket, sni, Wire::Straight).await
    }

    /// The client's side of TLS, which does not ask whose certificate the gateway's is.
    fn side(&self, sni: &str) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut config = (*self.0).clone();
        let verifier = Arc::new(anyone::Anyone);
        config.dangerous().set_certificate_verifier(verifier);
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        (Arc::new(config), name)
    }

    /// The client's side of TLS without a socket.
    pub(crate) fn session(&self, sni: &str) -> ClientConnection {
        let (config, name) = self.side(sni);
        ClientConnection::new(config, name).unwrap()
    }

    /// Makes a connection of a socket that is connected.
    pub(crate) async fn over(
        &self,
        socket: TcpStream,
        sni: &str,
        wire: Wire,
    ) -> Result<Connection, Refusal> {
        let (config, name) = self.side(sni);
        Connection::make(config, name, socket, wire).await
    }

    /// The same client, who keeps the tickets it is given and comes back with the newest, wherever it goes.
    pub(crate) fn returning(&self) -> Returning {
        let (config, _) = self.side("any");
        let mut config = (*config).clone();
        config.resumption = Resumption::store(Arc::new(Wallet::default()));
        Returning(Arc::new(config))
    }

    /// Connects over a wire that cuts what is sent.
    pub(crate) async fn over_wire(
        &self,
        gateway: SocketAddr,
        sni: &str,
        wire: Wire,
    ) -> Result<Connection, Refusal> {
        let socket = soon(TcpStream::connect(gateway)).await?;
        self.over(socket, sni, wire).await
    }

    /// Connects, says something and wants an answer: only then has the gateway let it in.
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

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TlsStream<Cutting>>,
    pub(crate) source: SocketAddr,
}

/// A client who comes back with tickets.
#[derive(Debug, Clone)]
pub(crate) struct Returning(Arc<ClientConfig>);

impl Returning {
    /// Connects, says something and wants an answer.
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

    /// The client's side of TLS without a socket.
    pub(crate) fn session(&self, sni: &str) -> ClientConnection {
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        ClientConnection::new(Arc::clone(&self.0), name).unwrap()
    }
}

/// The tickets that came, of which the newest is shown first and to whomever.
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

/// How a client was turned away or broken off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// By this alert.
    Alert(AlertDescription),
    /// By a reset.
    Reset,
    /// By an end that TLS did not announce.
    Truncated,
    /// By the end that TLS announces.
    Closed,
    /// In some other way.
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

    /// Says a line and reads the answer.
    pub(crate) async fn ask(&mut self, line: &str) -> Result<String, Refusal> {
        self.say(line).await?;
        self.hear().await
    }

    /// Says a line.
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

    /// Reads some of what comes, whatever it is.
    pub(crate) async fn hear_some(&mut self) {
        let mut some = [0; 4096];
        drop(soon(self.stream.read(&mut some)).await);
    }

    /// The name of the upstream that answers.
    pub(crate) async fn upstream(&mut self) -> String {
        let answer = self.ask("who").await.unwrap();
        answer.split(':').next().unwrap().to_owned()
    }

    /// Says that nothing more will be said.
    pub(crate) async fn finish(&mut self) {
        soon(self.stream.get_mut().shutdown()).await.unwrap();
    }

    /// Says that nothing more will be said, and leaves the socket open.
    pub(crate) async fn say_goodbye(&mut self) {
        let (socket, session) = self.stream.get_mut().get_mut();
        session.send_close_notify();
        let mut sealed = Vec::new();
        session.write_tls(&mut sealed).unwrap();
        soon(socket.write_all(&sealed)).await.unwrap();
    }

    /// Reads until the connection ends, and says how it did.
    pub(crate) async fn end(&mut self) -> Refusal {
        let mut rest = Vec::new();
        match soon(self.stream.read_to_end(&mut rest)).await {
            Ok(_) => Refusal::Closed,
            Err(error) => error.into(),
        }
    }

    /// The protocol that ALPN chose, empty if none.
    pub(crate) fn alpn(&self) -> &str {
        let chosen = self.stream.get_ref().get_ref().1.alpn_protocol();
        std::str::from_utf8(chosen.unwrap_or_default()).unwrap()
    }

    /// The gateway's certificate.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let shown = self.stream.get_ref().get_ref().1.peer_certificates();
        shown.unwrap()[0].to_vec()
    }

    /// The suite that was agreed on.
    pub(crate) fn suite(&self) -> CipherSuite {
        let chosen = self.stream.get_ref().get_ref().1.negotiated_cipher_suite();
        chosen.unwrap().suite()
    }

    /// Whether the handshake was a whole one.
    pub(crate) fn handshake(&self) -> rustls::HandshakeKind {
        self.stream.get_ref().get_ref().1.handshake_kind().unwrap()
    }

    /// How many tickets have arrived.
    pub(crate) fn tickets(&self) -> u32 {
        self.stream.get_ref().get_ref().1.tls13_tickets_received()
    }

    /// Changes its key before whatever it says next, and asks for the same in return.
    pub(crate) fn refresh_key(&mut self) {
        let session = self.stream.get_mut().get_mut().1;
        session.refresh_traffic_keys().unwrap();
    }

    /// Has what is said from now on changed on its way.
    pub(crate) fn tamper(&mut self) {
        self.stream.get_mut().get_mut().0.wire = Wire::Tampered;
    }

    /// How many bytes have come, TLS's own included.
    pub(crate) fn heard(&self) -> usize {
        self.stream.get_ref().get_ref().0.heard
    }

    /// The socket below TLS.
    pub(crate) fn socket(&mut self) -> &mut Cutting {
        self.stream.get_mut().get_mut().0
    }
}

mod anyone {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    /// Takes any gateway for the right one: these tests are about clients.
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
