//! Sides that take their time.

use tokio::net::TcpSocket;
use tokio::time::sleep;

use super::*;

/// Much more than the kernel holds for a side that does not read.
const LENGTH: usize = 200_000;

/// A connection whose sides hold little that was not read.
async fn narrow_pair() -> (TcpStream, TcpStream) {
    let [listening, connecting] = [(); 2].map(|()| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket
    });
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let near = connecting.connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn a_side_that_still_takes_what_it_was_sent_is_not_silent() {
    let config = RelayConfig {
        idle: Some(Duration::from_secs(20)),
        half_closed: Some(Duration::from_mins(1)),
        stall: None,
        ..RelayConfig::default()
    };
    for (client_takes, is_ended) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut world = World::over([narrow_pair().await, narrow_pair().await], config);
        let (speaker, reader) = if client_takes {
            (&mut world.upstream, &mut world.client)
        } else {
            (&mut world.client, &mut world.upstream)
        };
        tokio::time::pause();
        let speaks = async {
            speaker.write_all(&vec![7; LENGTH]).await.unwrap();
            if is_ended {
                speaker.shutdown().await.unwrap();
            }
        };
        let ((), taken) = tokio::join!(speaks, read_slowly(reader));
        assert_eq!(taken, LENGTH, "{client_takes} {is_ended}");
        tokio::time::resume();
        reader.shutdown().await.unwrap();
        speaker.shutdown().await.unwrap();
        let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
        assert!(matches!(ended, Ok(RelayEnd::Both)), "{ended:?}");
    }
}

/// Reads a little every 5 s, until it has all or there is no more.
async fn read_slowly(stream: &mut TcpStream) -> usize {
    let (mut taken, mut piece) = (0, vec![0; 8 * 1024]);
    while taken < LENGTH {
        sleep(Duration::from_secs(5)).await;
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => taken += read,
            Ok(_) | Err(_) => break,
        }
    }
    taken
}
