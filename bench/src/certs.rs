//! Certificates for all: ECDSA with P-256 on both sides.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::fallible::Fallible;

/// The name of the client, and of the group that it may reach.
pub(crate) const CLIENT: &str = "client";
/// The server's name, which clients ask for.
pub(crate) const SERVER: &str = "db";

/// Writes an authority, a server and a client into a directory.
pub(crate) fn write(folder: &Path) -> Fallible<()> {
    let mut authority = parameters("authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    for (name, purpose) in [
        (SERVER, ExtendedKeyUsagePurpose::ServerAuth),
        (CLIENT, ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut leaf = parameters(name)?;
        leaf.extended_key_usages = vec![purpose];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?.pem();
        fs::write(folder.join(format!("{name}.crt")), &certificate)?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        // haproxy wants both in one file.
        let both = certificate + &key.serialize_pem();
        fs::write(folder.join(format!("{name}.pem")), both)?;
    }
    Ok(())
}

fn parameters(name: &str) -> Fallible<CertificateParams> {
    let mut parameters = CertificateParams::new(vec![name.to_owned()])?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - Duration::hours(1);
    parameters.not_after = now + Duration::days(1);
    Ok(parameters)
}

/// X25519 only, which all peers have.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })
}

type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn load(folder: &Path, name: &str) -> Fallible<Shown> {
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.crt")))?;
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
    Ok((vec![certificate], key))
}

fn roots(folder: &Path) -> Fallible<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.crt"))?)?;
    Ok(roots)
}

/// The client's side, with its certificate or without, with resumption or without.
pub(crate) fn client(folder: &Path, shows: bool, resumes: bool) -> Fallible<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(folder)?);
    let mut config = if shows {
        let (chain, key) = load(folder, CLIENT)?;
        builder.with_client_auth_cert(chain, key)?
    } else {
        builder.with_no_client_auth()
    };
    config.resumption = if resumes {
        Resumption::in_memory_sessions(256)
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}

/// A server's side.
pub(crate) fn server(folder: &Path) -> Fallible<Arc<ServerConfig>> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(folder)?),
        Arc::clone(&provider),
    )
    .build()?;
    let (chain, key) = load(folder, SERVER)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}
