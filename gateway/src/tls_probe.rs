//! A health probe that performs a TLS handshake with an upstream.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An [`lb::Probe`] that succeeds if the upstream completes a handshake of TLS 1.2 or 1.3, with any
/// certificate.
///
/// A probe checks if a service is available, not its identity: the relayed bytes are the client's
/// own.
#[derive(Debug)]
pub(crate) struct TlsProbe {
    config: Arc<ClientConfig>,
    /// Server name to send, as the group's clients do. `None` sends no name.
    name: Option<ServerName<'static>>,
    key: String,
}

impl TlsProbe {
    /// Creates a probe without a client certificate, which sends the name `sni`.
    ///
    /// # Panics
    ///
    /// Not in practice: the cryptography library has suites for TLS 1.2 and 1.3.
    pub(crate) fn new(sni: Option<&str>) -> Self {
        let provider = Arc::new(default_provider());
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has suites for both")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { schemes }))
            .with_no_client_auth();
        // A name that is valid only in DNS (one that begins with `_`, for example) is not sent by
        // clients either.
        let name = sni.and_then(|sni| ServerName::try_from(sni.to_owned()).ok());
        Self {
            config: Arc::new(config),
            name,
            key: format!("tls {}", sni.unwrap_or_default()),
        }
    }
}

impl lb::Probe for TlsProbe {
    fn probe(
        &self,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        Box::pin(async move {
            let name = match &self.name {
                Some(name) => name.clone(),
                None => ServerName::IpAddress(stream.peer_addr()?.ip().into()),
            };
            TlsConnector::from(Arc::clone(&self.config))
                .connect(name, stream)
                .await
                .map(drop)
                .map_err(explained)
        })
    }

    fn key(&self) -> &str {
        &self.key
    }
}

/// Describes the error for an operator who asks why an upstream is down.
fn explained(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => io::Error::other("the answer is not TLS"),
        Some(rustls::Error::AlertReceived(alert)) => {
            io::Error::other(format!("it refused the TLS handshake: {alert:?}"))
        }
        Some(other) => io::Error::other(format!("the TLS handshake failed: {other}")),
        None => error,
    }
}

#[derive(Debug)]
struct AnyCertificate {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use certgen::{Authority, AuthoritySpec};
    use lb::Probe;
    use rustls::ServerConfig;
    use rustls::server::ResolvesServerCertUsingSni;
    use rustls::sign::CertifiedKey;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server of TLS 1.2 that completes a handshake for one name only, and what a probe says of
    /// it.
    async fn probed(sni: Option<&str>) -> io::Result<()> {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        let own = authority.server(&["db.example.test"]).unwrap();
        let chain = CertificateDer::pem_slice_iter(own.certificate_pem().as_bytes());
        let key = PrivateKeyDer::from_pem_slice(own.key_pem().as_bytes()).unwrap();
        let provider = Arc::new(default_provider());
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let certified = CertifiedKey::from_der(chain, key, &provider).unwrap();
        let mut names = ResolvesServerCertUsingSni::new();
        names.add("db.example.test", certified).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(names));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await?;
        let (accepted, _) = listener.accept().await?;
        let serving = TlsAcceptor::from(Arc::new(config)).accept(accepted);
        let probe = TlsProbe::new(sni);
        tokio::join!(probe.probe(stream), serving).0
    }

    #[tokio::test]
    async fn a_probe_asks_for_its_name_and_speaks_what_upstreams_speak() {
        probed(Some("db.example.test")).await.unwrap();
        for other in [None, Some("ui.example.test")] {
            let refused = probed(other).await.unwrap_err().to_string();
            assert!(
                refused.starts_with("it refused the TLS handshake: "),
                "{refused}"
            );
        }
    }

    #[test]
    fn probes_for_different_names_ask_different_things() {
        let key = |sni| TlsProbe::new(sni).key().to_owned();
        assert_ne!(key(Some("a")), key(Some("b")));
        assert_eq!(key(Some("a")), key(Some("a")));
    }
}
