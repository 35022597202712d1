//! What a proof is worth, and what is worth nothing without one.

use std::time::Duration;

use certgen::IssuedCertificate;
use lb::LoadBalancer;
use policy::Destination;
use tls::identity::Fingerprint;

use super::*;
use crate::loaded_policy::LoadedPolicy;
use crate::test_support::GatewayFiles;

/// A verifier for a connection to `db`, and alice, who has been there.
fn verifier() -> (GatewayFiles, Verifier, IssuedCertificate) {
    let files = GatewayFiles::with_clients("{alice: {groups: [db]}}");
    let (policy, tls) = LoadedPolicy::of_files(&files).into_parts();
    let alice = files.authority().client("alice").unwrap();
    let now = UnixTime::now();
    tls.cache(tls.identify(&alice.certificate_der(), &[], now).unwrap());
    let snapshot = GatewaySnapshot::first(policy, tls, &LoadBalancer::default());
    (files, verifier_of(Arc::new(snapshot)), alice)
}

fn verifier_of(snapshot: Arc<GatewaySnapshot>) -> Verifier {
    Verifier {
        snapshot,
        destination: Destination {
            sni: Some("db".to_owned()),
            port: 8443,
        },
        protocols: Vec::new(),
        cipher_order: CipherOrder::Gateway,
        state: Mutex::default(),
        tickets: AtomicUsize::new(0),
    }
}

fn ticket(alice: &IssuedCertificate) -> TicketContents {
    TicketContents {
        proven: UnixTime::now(),
        certificate: Fingerprint::of(alice.certificate_der()),
    }
}

#[test]
fn tickets_of_resumed_clients_end_with_the_first() {
    let (_files, verifier, alice) = verifier();
    let first = ticket(&alice);
    let after = |seconds| {
        let since = Duration::from_secs(first.proven.as_secs() + seconds);
        UnixTime::since_unix_epoch(since)
    };
    *verifier.state.lock() = VerifierState::Claimed(verifier.claim(first, after(3599)).unwrap());
    assert_eq!(verifier.ticket(), Some(first), "another like it");
    assert!(verifier.claim(first, after(3600)).is_none());
}

#[test]
fn a_permit_is_worth_nothing_after_a_handshake_that_proved_something_else() {
    let (_files, verifier, alice) = verifier();
    let claimed = || {
        let claim = verifier.claim(ticket(&alice), UnixTime::now());
        *verifier.state.lock() = VerifierState::Claimed(claim.unwrap());
    };
    claimed();
    assert!(verifier.take_permit(HandshakeKind::Full).is_err());
    claimed();
    assert!(verifier.ticket().is_some(), "its handshake is over");
    assert!(verifier.take_permit(HandshakeKind::Full).is_err());
    claimed();
    assert!(verifier.take_permit(HandshakeKind::Resumed).is_ok());
    assert!(
        verifier.take_permit(HandshakeKind::Resumed).is_err(),
        "once"
    );
}

#[test]
fn a_ticket_that_is_refused_leaves_nothing_of_the_one_before_it() {
    let (_files, verifier, alice) = verifier();
    let sealed = verifier.snapshot.tls().tickets().seal(ticket(&alice), b"");
    assert!(verifier.decrypt(&sealed.unwrap()).is_some());
    assert!(verifier.decrypt(b"another").is_none());
    assert!(verifier.take_permit(HandshakeKind::Resumed).is_err());
}

#[test]
fn so_many_tickets_of_a_hello_are_opened_and_no_more() {
    let (_files, verifier, alice) = verifier();
    let good = verifier.snapshot.tls().tickets().seal(ticket(&alice), b"");
    let good = good.unwrap();
    for (before, is_taken) in [(MOST_TICKETS - 1, true), (MOST_TICKETS, false)] {
        let verifier = verifier_of(Arc::clone(&verifier.snapshot));
        for _ in 0..before {
            assert!(verifier.decrypt(b"junk").is_none());
        }
        assert_eq!(verifier.decrypt(&good).is_some(), is_taken, "{before}");
        assert_eq!(
            verifier.take_permit(HandshakeKind::Resumed).is_ok(),
            is_taken
        );
    }
}

#[test]
fn whoever_shows_certificates_without_their_keys_leaves_no_trace() {
    let (files, verifier, alice) = verifier();
    let authority = files.authority();
    let others: Vec<_> = (0..3)
        .map(|_| authority.client("alice").unwrap().certificate_der())
        .collect();
    let tls = verifier.snapshot.tls();
    let leaf = alice.certificate_der();
    for n in 0..1100_u32 {
        // No certificate at all, which is what makes it cheap.
        let junk = CertificateDer::from(n.to_be_bytes().to_vec());
        let shown = &others[n as usize % others.len()];
        let verifier = verifier_of(Arc::clone(&verifier.snapshot));
        let now = UnixTime::now();
        verifier.verify_client_cert(shown, &[junk], now).unwrap();
        drop(verifier);
    }
    assert_eq!(tls.cached_chains(), 1);
    assert!(
        tls.cached(Fingerprint::of(&leaf), UnixTime::now())
            .is_some()
    );
}
