//! Clients of the demo: their visits, and the results as they see them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certgen::{Authority, IssuedCertificate};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::result_row::ResultRow;

/// Longest wait for the demo's own upstreams, clients and records: 10 seconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A visit of one client, with the expected result and reason.
#[derive(Debug)]
pub struct DemoVisit {
    /// The client.
    pub who: DemoClient,
    /// Name that the client asks for.
    pub sni: &'static str,
    /// Expected result, as the client sees it.
    pub answer: ClientResult,
    /// Expected reason in the gateway's record.
    pub reason: &'static str,
}

/// Client of a visit, by its certificate.
#[derive(Debug)]
pub enum DemoClient {
    /// A client of this name with a certificate of the demo's authority.
    Client(&'static str),
    /// A client of this name with a certificate of an unknown authority.
    Stranger(&'static str),
    /// A client without a certificate.
    Nobody,
}

/// Result of a visit, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientResult {
    /// An upstream answered.
    Served,
    /// The gateway sent the alert `access_denied`.
    Denied,
    /// The gateway sent the alert `unknown_ca`.
    UnknownAuthority,
    /// The gateway sent the alert `certificate_required`.
    CertificateRequired,
    /// The connection was reset.
    Reset,
    /// Any other error, or no answer in time.
    Other,
}

impl DemoVisit {
    /// Makes a visit that should be served.
    pub fn served(name: &'static str, sni: &'static str) -> Self {
        Self {
            who: DemoClient::Client(name),
            sni,
            answer: ClientResult::Served,
            reason: "finished",
        }
    }

    /// Makes a visit that should be denied for `reason`.
    pub fn denied(name: &'static str, sni: &'static str, reason: &'static str) -> Self {
        Self {
            who: DemoClient::Client(name),
            sni,
            answer: ClientResult::Denied,
            reason,
        }
    }

    /// Makes a visit with a certificate of an unknown authority, which should be refused.
    pub fn of_stranger(name: &'static str, sni: &'static str) -> Self {
        let (answer, reason) = (ClientResult::UnknownAuthority, "unknown_authority");
        Self {
            who: DemoClient::Stranger(name),
            sni,
            answer,
            reason,
        }
    }

    /// Makes a visit without a certificate, which should be refused.
    pub fn without_certificate(sni: &'static str) -> Self {
        let (answer, reason) = (ClientResult::CertificateRequired, "no_certificate");
        Self {
            who: DemoClient::Nobody,
            sni,
            answer,
            reason,
        }
    }

    /// Returns the client's name in the table.
    pub fn name(&self) -> String {
        match self.who {
            DemoClient::Client(name) => name.to_owned(),
            DemoClient::Stranger(name) => format!("{name}, forged"),
            DemoClient::Nobody => "no certificate".to_owned(),
        }
    }
}

/// Makes a client's TLS configuration: it trusts the demo's authority, and has the certificate if
/// there is one.
///
/// # Errors
///
/// A [`rustls::Error`] if the certificate and its key cannot be used.
pub fn configuration(
    authority: &Authority,
    certificate: Option<&IssuedCertificate>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let config = match certificate {
        Some(issued) => {
            config.with_client_auth_cert(vec![issued.certificate_der()], issued.key_der())?
        }
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// A connection that was served and is still open.
#[derive(Debug)]
pub struct ServedConnection {
    stream: BufReader<TlsStream<TcpStream>>,
    /// The client's address.
    pub source: SocketAddr,
    /// Answer of the upstream.
    pub said: String,
}

impl ServedConnection {
    /// Closes the connection in order, and waits until the gateway has closed it too.
    ///
    /// # Errors
    ///
    /// An error of the socket, or a timeout after [`PATIENCE`].
    pub async fn leave(mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown().await?;
        let mut rest = String::new();
        timeout(PATIENCE, self.stream.read_line(&mut rest)).await??;
        Ok(())
    }
}

/// A connection that was refused.
#[derive(Debug)]
pub struct RefusedConnection {
    /// The client's address, if the connection was accepted.
    pub source: Option<SocketAddr>,
    /// The result.
    pub answer: ClientResult,
    /// The answer or the error, as the client saw it.
    pub said: String,
}

/// Result of one visit, as its client and the gateway's record have it.
#[derive(Debug)]
pub struct VisitOutcome {
    /// The result.
    pub answer: ClientResult,
    /// The answer or the error, as the client saw it.
    pub said: String,
    /// Reason in the gateway's record.
    pub reason: String,
}

impl VisitOutcome {
    /// Makes the row of the table; `expected` is the answer and the record's reason.
    pub fn row(self, client: String, sni: &str, expected: (ClientResult, &str)) -> ResultRow {
        let Self {
            answer,
            said,
            reason,
        } = self;
        let is_expected = (answer, reason.as_str()) == expected;
        let mistake = || format!("{} expected; the client saw: {said}", expected.1);
        let upstream = said.split(':').next().unwrap_or_default();
        ResultRow {
            client,
            sni: sni.to_owned(),
            mistake: (!is_expected).then(mistake),
            result: if answer == ClientResult::Served {
                format!("served by {upstream}")
            } else {
                format!("refused: {reason}")
            },
        }
    }
}

/// Connects, sends a line and reads the answer, all within [`PATIENCE`].
///
/// # Errors
///
/// A [`RefusedConnection`] if no answer came.
pub async fn visit(
    gateway: SocketAddr,
    config: Arc<ClientConfig>,
    sni: &str,
) -> Result<ServedConnection, RefusedConnection> {
    let mut source = None;
    match timeout(PATIENCE, converse(gateway, config, sni, &mut source)).await {
        Ok(Ok(served)) => Ok(served),
        Ok(Err(error)) => {
            let (answer, said) = understand(&error);
            Err(RefusedConnection {
                source,
                answer,
                said,
            })
        }
        Err(_) => Err(RefusedConnection {
            source,
            answer: ClientResult::Other,
            said: "nothing".to_owned(),
        }),
    }
}

async fn converse(
    gateway: SocketAddr,
    config: Arc<ClientConfig>,
    sni: &str,
    source: &mut Option<SocketAddr>,
) -> io::Result<ServedConnection> {
    let socket = TcpStream::connect(gateway).await?;
    let address = socket.local_addr()?;
    *source = Some(address);
    let name = ServerName::try_from(sni.to_owned()).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(config).connect(name, socket).await?;
    stream.write_all(b"hello\n").await?;
    let mut stream = BufReader::new(stream);
    let mut said = String::new();
    if stream.read_line(&mut said).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(ServedConnection {
        stream,
        source: address,
        said: said.trim_end().to_owned(),
    })
}

fn understand(error: &io::Error) -> (ClientResult, String) {
    let tls = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(alert)) => {
            let known = [
                (AlertDescription::AccessDenied, ClientResult::Denied),
                (AlertDescription::UnknownCA, ClientResult::UnknownAuthority),
                (
                    AlertDescription::CertificateRequired,
                    ClientResult::CertificateRequired,
                ),
            ];
            let answer = known.iter().find(|(known, _)| known == alert);
            let answer = answer.map_or(ClientResult::Other, |&(_, answer)| answer);
            (answer, format!("TLS alert {alert:?}"))
        }
        Some(error) => (ClientResult::Other, error.to_string()),
        None if error.kind() == io::ErrorKind::ConnectionReset => {
            (ClientResult::Reset, "connection reset".to_owned())
        }
        None => (ClientResult::Other, error.to_string()),
    }
}
