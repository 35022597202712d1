use rustls::ClientConnection;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tokio::net::TcpListener;
use tokio::time::{Duration, timeout};

use super::*;
use crate::record_layer::test_support::{SERVER, client, name};

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (connected, accepted) = tokio::join!(connecting, listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// What a client gets to hear that sends this behind its hello.
async fn answer_to(behind: &[u8]) -> Result<(), rustls::Error> {
    let (mut socket, mut server) = connected().await;
    let mut client = ClientConnection::new(client(TLS13_AES_128_GCM_SHA256), name()).unwrap();
    let mut flight = Vec::new();
    client.write_tls(&mut flight).unwrap();
    flight.extend_from_slice(behind);
    socket.write_all(&flight).await.unwrap();
    let hello = read_client_hello(&mut server, Vec::new())
        .await
        .ok()
        .unwrap();
    let failed = hello.finish(&mut server, Arc::clone(&SERVER)).await;
    assert!(matches!(
        failed,
        Err(HandshakeError::Tls(_) | HandshakeError::Excess(_))
    ));
    drop(server);
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    client.read_tls(&mut &answer[..]).unwrap();
    client.process_new_packets().map(drop)
}

#[tokio::test]
async fn a_hello_is_listened_to_for_so_long_only() {
    let (mut socket, mut server) = connected().await;
    // As long as it may be, in records of a byte each, of which so many are not taken.
    let hello = [1, 0, 0x40, 0].into_iter().chain(std::iter::repeat(0));
    let records = hello.flat_map(|byte| [22, 3, 1, 0, 1, byte]);
    let flight: Vec<u8> = records.take(4 * MOST_PENDING).collect();
    let listen = async {
        let heard = timeout(
            Duration::from_secs(20),
            read_client_hello(&mut server, Vec::new()),
        )
        .await;
        drop(server);
        heard
    };
    let (_, heard) = tokio::join!(socket.write_all(&flight), listen);
    let Err(NoHello { error, first }) = heard.expect("it ends") else {
        panic!("it is no hello");
    };
    assert!(matches!(
        error,
        HandshakeError::Excess(HelloExcess::Pending)
    ));
    assert_eq!(first, FirstBytes::Tls);
}

#[tokio::test]
async fn another_hello_is_bounded_as_the_first_one_is() {
    let (mut socket, mut server) = connected().await;
    let mut client = ClientConnection::new(client(TLS13_AES_128_GCM_SHA256), name()).unwrap();
    let mut flight = Vec::new();
    client.write_tls(&mut flight).unwrap();
    flight.extend_from_slice(&[22, 3, 3, 0, 4, 1, 0, 0x40, 1]);
    socket.write_all(&flight).await.unwrap();
    let hello = read_client_hello(&mut server, Vec::new())
        .await
        .ok()
        .unwrap();
    let failed = hello.finish(&mut server, Arc::clone(&SERVER)).await;
    assert!(matches!(
        failed,
        Err(HandshakeError::Excess(HelloExcess::Hello))
    ));
}

#[tokio::test]
async fn whatever_follows_a_hello_is_answered_by_an_alert() {
    let sealed = [&[23, 3, 3, 0, 53][..], &[7; 53]].concat();
    for behind in [
        &sealed[..],
        &[&sealed[..], &sealed].concat(),
        &[&[20, 3, 3, 0, 1, 1][..], &sealed, &[1, 2, 3]].concat(),
        &[23, 3, 3, 0xff, 0xff, 1],
        &[22, 3, 3, 0, 4, 1, 0, 0, 0],
        b"GET / HTTP/1.0\r\n\r\n",
        &[0; 100],
    ] {
        let told = timeout(Duration::from_secs(20), answer_to(behind)).await;
        let told = told.unwrap_or_else(|_| panic!("it waits behind {behind:?}"));
        assert!(
            matches!(told, Err(rustls::Error::AlertReceived(_))),
            "{told:?} {behind:?}"
        );
    }
}
