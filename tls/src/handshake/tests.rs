use std::cell::RefCell;
use std::io::ErrorKind;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::record_layer::test_support::{SERVER, client, name};

/// A gate that writes down what it is asked, and refuses at one of its steps.
#[derive(Default)]
struct TestGate {
    asked: RefCell<Vec<&'static str>>,
    refuses: Option<&'static str>,
    evicts: Option<&'static str>,
}

#[derive(Debug, PartialEq)]
enum TestRefusal {
    Gate(&'static str),
    Handshake(HandshakeFailure),
}

/// A slot that is lost at once, or never.
struct TestSlot(bool);

impl EvictableSlot for TestSlot {
    async fn evicted(&self) {
        if !self.0 {
            Notify::new().notified().await;
        }
    }
}

impl From<HandshakeFailure> for TestRefusal {
    fn from(failure: HandshakeFailure) -> Self {
        Self::Handshake(failure)
    }
}

impl TestGate {
    fn step(&self, step: &'static str) -> Result<TestSlot, TestRefusal> {
        self.asked.borrow_mut().push(step);
        if self.refuses == Some(step) {
            return Err(TestRefusal::Gate(step));
        }
        Ok(TestSlot(self.evicts == Some(step)))
    }
}

impl HandshakeGate for TestGate {
    type SilentSlot = TestSlot;
    type HandshakeSlot = TestSlot;
    type Verifier = ();
    type Permit = HandshakeKind;
    type Refusal = TestRefusal;

    fn admit_silent(&self) -> Result<TestSlot, TestRefusal> {
        self.step("silent")
    }

    fn admit_handshake(&self, _silent: TestSlot) -> Result<TestSlot, TestRefusal> {
        self.step("handshake")
    }

    fn configure(&mut self, hello: &ClientHello<'_>) -> (Arc<ServerConfig>, ()) {
        assert_eq!(hello.server_name(), Some("gateway"));
        self.asked.get_mut().push("configure");
        (Arc::clone(&SERVER), ())
    }

    fn refusal(&mut self, (): &(), failure: HandshakeFailure) -> TestRefusal {
        self.asked.get_mut().push("refusal");
        failure.into()
    }

    fn authorize(&mut self, (): &(), kind: HandshakeKind) -> Result<HandshakeKind, TestRefusal> {
        self.step("authorize")?;
        Ok(kind)
    }
}

/// A client's socket, and the gateway's.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// What becomes of a client that shakes hands, reads until the end and leaves.
async fn visit(socket: &mut TcpStream) -> Result<(), rustls::Error> {
    let mut client = ClientConnection::new(client(TLS13_AES_128_GCM_SHA256), name()).unwrap();
    let mut room = vec![0; 4096];
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        socket.write_all(&flight).await.unwrap();
        if !client.is_handshaking() {
            socket.shutdown().await.unwrap();
        }
        let read = socket.read(&mut room).await.unwrap();
        if read == 0 {
            return Ok(());
        }
        client.read_tls(&mut &room[..read]).unwrap();
        client.process_new_packets()?;
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn a_client_is_admitted_twice_then_configured_and_then_authorized() {
    let (mut socket, server) = connected().await;
    let mut gate = TestGate::default();
    let accepting = async {
        let accepted = accept(server, soon(), &mut gate).await.unwrap();
        assert_eq!(accepted.permit, HandshakeKind::Full);
        accepted.session
    };
    let (told, session) = tokio::join!(visit(&mut socket), accepting);
    assert_eq!(told, Ok(()));
    assert_eq!(session.cipher, "TLS_AES_128_GCM_SHA256");
    assert_eq!((session.alpn, session.resumed), (None, false));
    let asked = gate.asked.into_inner();
    assert_eq!(asked, ["silent", "handshake", "configure", "authorize"]);
}

#[tokio::test]
async fn a_client_that_is_not_authorized_is_told_so_and_can_read_it() {
    let (mut socket, server) = connected().await;
    let mut gate = TestGate {
        refuses: Some("authorize"),
        ..TestGate::default()
    };
    let (told, refused) = tokio::join!(visit(&mut socket), accept(server, soon(), &mut gate));
    assert_eq!(refused.unwrap_err(), TestRefusal::Gate("authorize"));
    let denied = rustls::Error::AlertReceived(AlertDescription::AccessDenied);
    assert_eq!(told, Err(denied));
}

#[tokio::test]
async fn a_client_without_room_sees_a_reset_and_a_late_one_does_not() {
    for (gate, deadline, expected, is_reset) in [
        (("silent", ""), soon(), TestRefusal::Gate("silent"), true),
        (
            ("", "silent"),
            soon(),
            HandshakeFailure::SilentEvicted.into(),
            true,
        ),
        (
            ("", ""),
            Instant::now(),
            HandshakeFailure::Late(FirstBytes::Nothing).into(),
            false,
        ),
    ] {
        let (mut socket, server) = connected().await;
        let mut gate = TestGate {
            refuses: Some(gate.0),
            evicts: Some(gate.1),
            ..TestGate::default()
        };
        let refusal = accept(server, deadline, &mut gate).await.unwrap_err();
        assert_eq!(refusal, expected);
        let end = socket.read(&mut [0]).await;
        let reset = end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert_eq!(reset, is_reset, "{expected:?}");
    }
}

#[tokio::test]
async fn what_is_no_tls_is_named_and_answered_by_an_alert() {
    let (mut socket, server) = connected().await;
    let mut gate = TestGate::default();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = async {
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        drop(socket);
        answer
    };
    let (answer, refused) = tokio::join!(answer, accept(server, soon(), &mut gate));
    let not_tls = HandshakeFailure::NotTls(FirstBytes::Http);
    assert_eq!(refused.unwrap_err(), not_tls.into());
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 10]);
    assert_eq!(gate.asked.into_inner(), ["silent", "handshake"]);
}
