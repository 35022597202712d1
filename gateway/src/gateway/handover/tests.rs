//! What the new process was given and what it is told come to the connections that there are,
//! whatever happens while the one process hands over to the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use policy::Destination;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use rustls_pki_types::CertificateDer;

use super::*;
use crate::access_record::Recorder;
use crate::admission_wait::AdmissionWait;
use crate::client_identity::Identity;
use crate::connection_event::{AdmissionAnswer, AdmissionVerdict, ConnectionEvent};
use crate::loaded_policy::LoadedPolicy;
use crate::rejection::Rejection;
use crate::remote_admission::RemoteAdmission;
use crate::test_support::GatewayFiles;

const ROUNDS: usize = 100;
const THREADS: usize = 4;
const LIMIT: u32 = 2;

/// A gateway with one client, its files, and the client's certificate.
fn gateway() -> (GatewayFiles, Arc<Gateway>, CertificateDer<'static>) {
    let files = GatewayFiles::with_clients("{alice: {groups: [db], max_connections: 2}}");
    let recorder = Recorder::new(files.sink());
    let gateway = Gateway::new(LoadedPolicy::of_files(&files), recorder);
    let alice = files.authority().client("alice").unwrap();
    (files, gateway, alice.certificate_der())
}

/// Comes in, reaches an upstream, leaves, until told to stop. Says how often it came in.
async fn come_and_go(
    gateway: &Gateway,
    alice: &CertificateDer<'static>,
    stop: &AtomicBool,
) -> usize {
    let upstream = "127.0.0.1:1".parse().unwrap();
    let mut came = 0;
    while !stop.load(SeqCst) {
        let destination = Destination {
            sni: Some("db".to_owned()),
            port: 1,
        };
        let identity = Identity::of(alice).unwrap();
        let permit = gateway
            .snapshot()
            .authorize(identity, &destination)
            .unwrap();
        let connection = gateway.recorder().number();
        let mut wait = AdmissionWait::default();
        let entering = gateway
            .shared()
            .admit(connection, permit, Vec::new(), &mut wait);
        match entering.await {
            Ok(guard) => {
                guard.dialed(upstream);
                came += 1;
            }
            Err(Rejection::Limited(_)) => {}
            Err(rejection) => panic!("{rejection}"),
        }
    }
    came
}

/// An answer without a wait.
fn answer(connection: u64, verdict: AdmissionVerdict) -> AdmissionAnswer {
    AdmissionAnswer {
        connection,
        verdict,
        waited: None,
    }
}

/// The new process, as far as it counts.
struct Other {
    counted: HashMap<u64, Option<SocketAddr>>,
    /// What it was told and cannot be.
    wrong: Vec<String>,
}

impl Other {
    fn hear(&mut self, remote_admission: &RemoteAdmission, event: &ConnectionEvent) {
        match *event {
            ConnectionEvent::Arrived { connection, .. } => {
                let verdict = if self.counted.len() < LIMIT as usize {
                    if self.counted.insert(connection, None).is_some() {
                        self.wrong.push(format!("{connection} arrives twice"));
                    }
                    AdmissionVerdict::Admitted
                } else {
                    AdmissionVerdict::Connections(NonZeroU32::new(LIMIT).unwrap())
                };
                remote_admission.answer(answer(connection, verdict));
            }
            ConnectionEvent::Dialed {
                connection,
                upstream,
            } => {
                let counted = self.counted.get_mut(&connection);
                if counted.is_none_or(|before| before.replace(upstream).is_some()) {
                    self.wrong
                        .push(format!("{connection} dials twice, or is not counted"));
                }
            }
            ConnectionEvent::Ended { connection } => {
                if self.counted.remove(&connection).is_none() {
                    self.wrong
                        .push(format!("{connection} ends, but is not counted"));
                }
            }
        }
    }

    /// Hears all that it is told until nobody is left to tell anything.
    fn hear_all(
        &mut self,
        remote_admission: &RemoteAdmission,
        told: &mut UnboundedReceiver<ConnectionEvent>,
        left: &AtomicUsize,
    ) {
        loop {
            match told.try_recv() {
                Ok(message) => self.hear(remote_admission, &message),
                Err(TryRecvError::Empty) if left.load(SeqCst) > 0 => thread::yield_now(),
                Err(_) => return,
            }
        }
    }
}

#[test]
fn what_is_handed_over_and_what_is_told_are_all_connections_and_no_others() {
    let (_files, gateway, alice) = gateway();
    let mut in_all = 0;
    for _ in 0..ROUNDS {
        let (stop, left) = (AtomicBool::new(false), AtomicUsize::new(THREADS));
        thread::scope(|scope| {
            let visitors: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().build();
                        let visiting = come_and_go(&gateway, &alice, &stop);
                        let came = runtime.unwrap().block_on(visiting);
                        left.fetch_sub(1, SeqCst);
                        came
                    })
                })
                .collect();
            thread::yield_now();
            let (remote_admission, mut told) = RemoteAdmission::new();
            let states = gateway
                .shared()
                .connections()
                .admit_remotely(Arc::clone(&remote_admission));
            assert!(states.len() <= LIMIT as usize);
            let counted = states.iter().map(|one| (one.connection, one.upstream));
            let mut other = Other {
                counted: counted.collect(),
                wrong: Vec::new(),
            };
            for _ in 0..200 {
                let message = told.blocking_recv().unwrap();
                other.hear(&remote_admission, &message);
            }
            stop.store(true, SeqCst);
            other.hear_all(&remote_admission, &mut told, &left);
            assert!(other.wrong.is_empty(), "{:?}", other.wrong);
            assert!(other.counted.is_empty(), "{:?}", other.counted);
            in_all += visitors
                .into_iter()
                .map(|visitor| visitor.join().unwrap())
                .sum::<usize>();
        });
        assert_eq!(gateway.shared().balancer().limiter().clients(), 0);
        gateway.shared().connections().admit_locally();
    }
    assert!(in_all > ROUNDS);
}

#[tokio::test]
async fn whoever_asks_a_process_that_is_gone_is_let_in_here() {
    let (_files, gateway, alice) = gateway();
    let (remote_admission, told) = RemoteAdmission::new();
    gateway
        .shared()
        .connections()
        .admit_remotely(Arc::clone(&remote_admission));
    let stop = AtomicBool::new(false);
    let visiting = come_and_go(&gateway, &alice, &stop);
    let ending = async {
        tokio::task::yield_now().await;
        gateway.shared().connections().admit_locally();
        drop(told);
        remote_admission.close();
        stop.store(true, SeqCst);
    };
    let (came, ()) = tokio::join!(visiting, ending);
    assert!(came > 0);
}

#[tokio::test]
async fn a_client_that_is_denied_after_it_was_let_in_and_before_it_has_entered_ends() {
    let (_files, gateway, alice) = gateway();
    let (remote_admission, _told) = RemoteAdmission::new();
    gateway
        .shared()
        .connections()
        .admit_remotely(Arc::clone(&remote_admission));
    let destination = Destination {
        sni: Some("db".to_owned()),
        port: 1,
    };
    for is_cut in [true, false] {
        let identity = Identity::of(&alice).unwrap();
        let permit = gateway
            .snapshot()
            .authorize(identity, &destination)
            .unwrap();
        let connection = gateway.recorder().number();
        let mut wait = AdmissionWait::default();
        let entering = gateway
            .shared()
            .admit(connection, permit, Vec::new(), &mut wait);
        let deciding = async {
            // The two messages may be read before anybody who enters runs again.
            remote_admission.answer(answer(connection, AdmissionVerdict::Admitted));
            if is_cut {
                gateway.shared().connections().end(connection);
            }
        };
        let (guard, ()) = tokio::join!(biased; entering, deciding);
        let guard = guard.unwrap();
        let revoked = tokio::time::timeout(std::time::Duration::ZERO, guard.revoked()).await;
        assert_eq!(revoked.is_ok(), is_cut);
    }
}
