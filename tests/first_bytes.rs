//! A client that does not speak the gateway's TLS is told so by an alert, and its record says what
//! it speaks and what to do about it.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Gateway, Upstream, World, soon, source_of};

/// A fatal alert in plain text.
fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}
const UNEXPECTED_MESSAGE: u8 = 10;
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// All that a client is answered that begins so, and its record.
async fn begin(gateway: &Gateway, bytes: &[u8]) -> (Vec<u8>, Value) {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let source = socket.local_addr().unwrap().to_string();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    drop(socket);
    let record = gateway.record(|record| source_of(record) == source);
    (answer, record.await)
}

async fn gateway() -> (Upstream, World, Gateway) {
    let upstream = Upstream::start("db").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    (upstream, world, gateway)
}

#[tokio::test]
async fn clients_of_other_protocols_are_named_in_their_records() {
    let (_upstream, _world, gateway) = gateway().await;
    let rows: [(&[u8], &str); 8] = [
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "sslnegotiation=direct"),
        (
            b"GET / HTTP/1.1\r\nHost: db\r\n\r\n",
            "HTTP request without TLS",
        ),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 8443\r\n",
            "PROXY protocol header",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x67\x20\xfb",
            "PROXY protocol header",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"*1\r\n$4\r\nPING\r\n", "Redis without TLS"),
        (b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10", "TLS 1.3 is required"),
        (b"something else", "an unknown protocol"),
    ];
    for (bytes, words) in rows {
        let (answer, record) = begin(&gateway, bytes).await;
        assert_eq!(answer, alert(UNEXPECTED_MESSAGE), "{words}");
        assert_eq!(record["reason"], "not_tls", "{words}");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_at_all_is_named_so() {
    let (_upstream, mut world, gateway) = gateway().await;
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    drop(socket);
    let record = gateway.record_with("handshake_abandoned").await;
    assert_eq!(
        record["detail"],
        "the client disconnected before it sent a byte"
    );
    drop(gateway);
    world.gateway_line("timeouts: {handshake: 200ms}");
    let gateway = world.start().await;
    let (answer, record) = begin(&gateway, b"").await;
    assert_eq!(answer, b"");
    assert_eq!(record["reason"], "handshake_timeout");
    let detail = record["detail"].as_str().unwrap();
    assert!(
        detail.contains("did not begin TLS in time: no bytes"),
        "{detail}"
    );
}

/// A `ClientHello` with these extensions, in one record.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, three suites of TLS 1.3 and one of 1.2, no compression.
    body.extend([0, 0, 8, 0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 1, 0]);
    let extensions: Vec<u8> = extensions.iter().flat_map(extension).collect();
    body.extend(sized(&extensions));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1], &sized(&message)[..]].concat()
}

fn extension((kind, content): &(u16, Vec<u8>)) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(content)].concat()
}

/// Its length in two bytes, then the content.
fn sized(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], content].concat()
}

const GROUPS: u16 = 10;
const SIGNATURES: u16 = 13;
const PROTOCOLS: u16 = 16;
const VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

fn versions(version: u8) -> (u16, Vec<u8>) {
    (VERSIONS, vec![2, 3, version])
}

/// Only this group, with a key share that is never looked at.
fn group(group: u8) -> [(u16, Vec<u8>); 2] {
    let share = sized(&[&[0, group][..], &sized(&[4; 133])].concat());
    [(GROUPS, vec![0, 2, 0, group]), (KEY_SHARE, share)]
}

#[tokio::test]
async fn what_a_clients_tls_lacks_is_said_in_its_record() {
    let (_upstream, _world, gateway) = gateway().await;
    let signatures = (SIGNATURES, vec![0, 2, 4, 3]);
    let [p521, share] = group(0x19);
    let protocols = (PROTOCOLS, sized(&[1, b'x'].repeat(65)));
    let rows = [
        (
            hello(&[(GROUPS, vec![0, 2, 0, 0x1d]), signatures.clone()]),
            PROTOCOL_VERSION,
            "the client offers TLS 1.2 at most; TLS 1.3 is required",
        ),
        (
            hello(&[versions(3), p521.clone(), signatures.clone()]),
            PROTOCOL_VERSION,
            "the client offers TLS 1.2 at most; TLS 1.3 is required",
        ),
        (
            hello(&[versions(4), p521, share, signatures]),
            HANDSHAKE_FAILURE,
            "the client offers no common key-exchange group",
        ),
        (
            hello(&[versions(4), protocols]),
            ILLEGAL_PARAMETER,
            "the client offers more than 64 application protocols",
        ),
        (
            [&[22, 3, 1, 0x40, 0, 1, 0, 0x40, 1][..], &[0; 16 * 1024]].concat(),
            DECODE_ERROR,
            "the client's ClientHello has more than 16384 bytes",
        ),
        (
            vec![22, 3, 1, 0, 4, 1, 0, 0, 0],
            DECODE_ERROR,
            "the client sent a message whose lengths do not match",
        ),
        (
            vec![22, 9, 9, 0, 4, 1, 0, 0, 0],
            DECODE_ERROR,
            "the client sent a record of an unknown version of TLS",
        ),
    ];
    for (bytes, description, words) in rows {
        let (answer, record) = begin(&gateway, &bytes).await;
        assert_eq!(answer, alert(description), "{words}: {record}");
        assert_eq!(record["reason"], "tls_failed", "{words}");
        let detail = record["detail"].as_str().unwrap();
        let expected = format!("the TLS handshake failed: {words}");
        assert!(detail.starts_with(&expected), "{detail}");
    }
}
