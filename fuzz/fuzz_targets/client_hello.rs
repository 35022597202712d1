//! Whatever a client says first, it is answered or refused, and lets nobody in by itself.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use certgen::{Authority, AuthoritySpec, Overwrite};
use gateway::snapshot::GatewaySnapshot;
use gateway::tls_files::settings_files;
use gateway::verifier::Verifier;
use lb::LoadBalancer;
use libfuzzer_sys::fuzz_target;
use policy::Policy;
use rustls::HandshakeKind;
use rustls::server::Acceptor;
use rustls_pki_types::UnixTime;
use tls::TlsSettings;

const POLICY: &str = "version: 1
gateway:
  listen: ['127.0.0.1:8443']
  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
groups:
  db: {sni: [db, '*.db.example.test'], alpn: [postgresql, h2], upstreams: ['127.0.0.1:1'], health: {check: off}}
clients:
  alice: {groups: [db]}
";
const PORT: u16 = 8443;

static RUNNING: LazyLock<Arc<GatewaySnapshot>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(&AuthoritySpec::default()).expect("an authority");
    let own = authority.server(&["localhost"]).expect("a certificate");
    let saved = authority.save(dir.path(), Overwrite::Refuse);
    saved.expect("a folder that takes files");
    let saved = own.save(dir.path(), "server", Overwrite::Refuse);
    saved.expect("a folder that takes files");
    Arc::new(running(dir.path()))
});

fn running(dir: &Path) -> GatewaySnapshot {
    let policy = Policy::parse("policy.yaml", POLICY).expect("a valid policy");
    let tls = TlsSettings::load(&settings_files(&policy.gateway().tls, dir), UnixTime::now())
        .expect("what was saved");
    let balancer = LoadBalancer::default();
    GatewaySnapshot::first(policy, Arc::new(tls), &balancer)
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((_, mut alert)) => {
                alert.write_all(&mut Vec::new()).expect("memory takes it");
                return;
            }
        }
        match acceptor.read_tls(&mut rest) {
            Ok(read) if read > 0 => {}
            Ok(_) | Err(_) => return,
        }
    };

    let verifier = Verifier::new(Arc::clone(&RUNNING), &accepted.client_hello(), PORT);
    if let Some(name) = &verifier.destination().sni {
        let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
        assert!(name.chars().all(plain), "{name:?}");
        assert!((1..=254).contains(&name.len()), "{name:?}");
    }
    if let Ok(mut connection) = accepted.into_connection(verifier.configuration()) {
        while connection.read_tls(&mut rest).is_ok_and(|read| read > 0) {
            if connection.process_new_packets().is_err() {
                break;
            }
        }
        assert!(connection.is_handshaking(), "nobody proved anything yet");
    }
    assert!(
        verifier.take_permit(HandshakeKind::Full).is_err(),
        "nobody proved who it is"
    );
});
