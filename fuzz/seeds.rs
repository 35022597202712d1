//! Writes the seeds that are not text: certificates and the first flights of clients.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use certgen::rcgen::{CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose};
use certgen::{Authority, AuthoritySpec};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let authority = Authority::new(&AuthoritySpec::default())?;
    certificates(&authority, &seeds.join("identity"))?;
    hellos(&authority, &seeds.join("client_hello"))
}

fn certificates(authority: &Authority, folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let put = |name: &str, der: &[u8]| fs::write(folder.join(name).with_extension("der"), der);
    put("authority", authority.certificate_der())?;
    put(
        "server",
        &authority.server(&["localhost"])?.certificate_der(),
    )?;
    put("client", &authority.client("billing")?.certificate_der())?;
    let printable = DnValue::PrintableString("billing".try_into()?);
    let teletex = DnValue::TeletexString("billing".try_into()?);
    let wide = DnValue::BmpString("billing".try_into()?);
    for (name, value) in [
        ("printable", printable),
        ("teletex", teletex),
        ("bmp", wide),
        ("long", DnValue::Utf8String("é".repeat(64))),
        ("control", DnValue::Utf8String("a\nb".to_owned())),
        ("bidi", DnValue::Utf8String("a\u{202e}b".to_owned())),
    ] {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, value);
        put(name, &authority.issue_custom(params)?.certificate_der())?;
    }
    Ok(())
}

fn hellos(authority: &Authority, folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    for (file, name, protocols) in [
        ("plain", "db", [].as_slice()),
        ("protocols", "db", &["h2", "postgresql"]),
        ("below", "a.DB.example.test", &["gopher"]),
        ("address", "127.0.0.1", &[]),
    ] {
        let mut config = config.clone();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name)?)?;
        let mut flight = Vec::new();
        client.write_tls(&mut flight)?;
        fs::write(folder.join(file).with_extension("bin"), flight)?;
    }
    Ok(())
}
