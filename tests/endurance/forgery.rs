//! Clients that try to write into the records what was not so.

use certgen::rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::soon;
use crate::stage::Stage;

/// As long as what takes its place, and found nowhere else in a `ClientHello`.
const HONEST: &str = "honest-name-of-no-group";
const FORGED: [&[u8; HONEST.len()]; 4] = [
    b"x\"}\n{\"forged\":\"record\"}",
    b"x\r\n{\"forged\":\"record\"}\n",
    b"\x1b[2J\x1b[1;1H{\"forged\":1}\n",
    b"\0\x85\xe2\x80\xa8{\"forged\":\"reco\"}\xff",
];

#[tokio::test]
async fn nothing_that_a_client_says_makes_a_second_line() {
    let stage = Stage::with(&[]).await;
    let mut gateway = stage.start().await;
    let alice = stage.alice();
    let mut connections = 0;

    for forged in FORGED {
        let mut hello = alice.hello(HONEST);
        let at = hello
            .windows(HONEST.len())
            .position(|bytes| bytes == HONEST.as_bytes())
            .unwrap();
        hello[at..at + HONEST.len()].copy_from_slice(forged);
        say(gateway.address, &hello).await;
        say(gateway.address, forged).await;
        connections += 2;
    }
    for name in [
        "alice\n{\"forged\":\"record\"}",
        "alice\"}\r\n",
        "\u{2028}alice",
    ] {
        let client = named(&stage, name);
        // Whether it learns of its refusal here or with its first byte is up to TLS 1.3.
        assert!(client.visit(gateway.address).await.is_err());
        connections += 1;
    }
    let protocol = alice.offering("h2\n{\"forged\":\"record\"}");
    // A protocol that nobody speaks is not spoken.
    protocol.visit(gateway.address).await.unwrap();
    connections += 1;

    assert!(gateway.stop().await.success());
    let records = gateway.records();
    assert_eq!(records.len(), connections, "{records:#?}");
    for record in records {
        assert!(record.get("forged").is_none(), "{record}");
        assert!(record["connection"].is_string() && record["reason"].is_string());
    }
    let text = std::fs::read_to_string(stage.path("access.log")).unwrap();
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "a terminal would obey: {text}");
}

/// Says something that is refused, and waits for the end.
async fn say(gateway: std::net::SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(gateway).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    socket.shutdown().await.unwrap();
    // An alert, an end or a reset: all of them are fine.
    drop(soon(socket.read_to_end(&mut Vec::new())).await);
}

/// A client whose certificate says whatever it likes.
fn named(stage: &Stage, name: &str) -> Client {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    Client::of(
        &stage.authority,
        &stage.authority.issue_custom(params).unwrap(),
    )
}
