//! What is sealed besides data.

use rustls::ClientConnection;

use super::*;

/// A session that owes its peer a key update, and the peer.
fn owing() -> (RecordLayer, ClientConnection) {
    let (mut session, mut client) = pair(TLS13_AES_128_GCM_SHA256);
    client.refresh_traffic_keys().unwrap();
    let sent = say(&mut client, b"!");
    assert_eq!(read(&mut session, &sent, 100), (b"!".to_vec(), None));
    (session, client)
}

#[test]
fn a_record_without_data_is_sealed_and_carries_a_key_update_that_is_owed() {
    let mut room = [0; 100];
    let (mut session, mut client) = pair(TLS13_AES_128_GCM_SHA256);
    let length = session.seal_nothing(&mut room).unwrap();
    assert_eq!(length, OVERHEAD);
    assert_eq!(hear(&mut client, &room[..length]), b"");
    assert_eq!(seal(&mut session, b"a").len(), OVERHEAD + 1, "no update");
    let (mut session, mut client) = owing();
    let length = session.seal_nothing(&mut room).unwrap();
    assert_eq!(length, OVERHEAD + KEY_UPDATE.len());
    assert_eq!(hear(&mut client, &room[..length]), b"");
    let after = seal(&mut session, b"a");
    assert_eq!(hear(&mut client, &after), b"a");
}

#[test]
fn a_key_update_is_sealed_when_there_is_room_for_it_and_data_to_follow() {
    let update = OVERHEAD + KEY_UPDATE.len();
    let (mut session, mut client) = owing();
    let mut room = [0; 100];
    assert_eq!(session.seal(&[], &mut room).unwrap(), (0, 0));
    assert_eq!(session.seal(b"a", &mut room[..update - 1]).unwrap(), (0, 0));
    assert_eq!(
        session.seal(b"a", &mut room[..update]).unwrap(),
        (0, update)
    );
    assert_eq!(hear(&mut client, &room[..update]), b"");
    let data = OVERHEAD + 1;
    assert_eq!(session.seal(b"ab", &mut room[..data]).unwrap(), (1, data));
    assert_eq!(hear(&mut client, &room[..data]), b"a");
}

#[test]
fn an_alert_is_a_warning_only_if_it_is_the_orderly_end() {
    let heard = |alert| {
        let (mut session, mut client) = pair(TLS13_AES_128_GCM_SHA256);
        let mut room = [0; 100];
        let length = session.seal_alert(alert, &mut room).unwrap();
        client.read_tls(&mut &room[..length]).unwrap();
        let state = client.process_new_packets();
        state.map(|state| state.peer_has_closed())
    };
    assert_eq!(heard(AlertDescription::CloseNotify), Ok(true));
    let fatal = AlertDescription::InternalError;
    assert_eq!(heard(fatal), Err(rustls::Error::AlertReceived(fatal)));
    let (session, _) = pair(TLS13_AES_128_GCM_SHA256);
    assert_eq!(format!("{session:?}"), "Session { .. }", "no key is shown");
}
