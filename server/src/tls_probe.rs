//! A health probe that asks an upstream for a TLS handshake.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Passes when the upstream completes a TLS 1.3 handshake, whatever certificate it shows.
///
/// A probe asks whether a service is there, not who it is: the relayed bytes are the client's own.
#[derive(Debug)]
pub struct TlsProbe {
    config: Arc<ClientConfig>,
}

impl TlsProbe {
    /// A probe without a client certificate.
    pub fn new() -> Self {
        let provider = Arc::new(default_provider());
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { schemes }))
            .with_no_client_auth();
        Self {
            config: Arc::new(config),
        }
    }
}

impl Default for TlsProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl lb::Probe for TlsProbe {
    fn probe(
        &self,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        Box::pin(async move {
            let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
            TlsConnector::from(Arc::clone(&self.config))
                .connect(name, stream)
                .await
                .map(drop)
        })
    }

    fn key(&self) -> &'static str {
        "tls"
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
