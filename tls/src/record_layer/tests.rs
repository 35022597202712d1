use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};

use super::record::MAX_CIPHERTEXT;
use super::test_support::{ends, hear, pair, say};
use super::*;

mod sealing;
mod small;

const SUITES: [SupportedCipherSuite; 3] = [
    TLS13_AES_128_GCM_SHA256,
    TLS13_AES_256_GCM_SHA384,
    TLS13_CHACHA20_POLY1305_SHA256,
];

/// A session, and what a peer needs that keeps to no rule.
fn forger(suite: SupportedCipherSuite) -> (RecordLayer, RecordKeys) {
    let (session, client) = ends(suite);
    let (secrets, _) = client.dangerous_into_kernel_connection().unwrap();
    (session, RecordKeys::new(secrets.tx).unwrap())
}

/// What comes of everything that a peer has sent, in pieces of so many bytes, in no time.
fn read(
    session: &mut RecordLayer,
    sent: &[u8],
    piece: usize,
) -> (Vec<u8>, Option<Result<(), RecordError>>) {
    read_at(*START, session, sent, piece)
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn read_at(
    now: Instant,
    session: &mut RecordLayer,
    sent: &[u8],
    piece: usize,
) -> (Vec<u8>, Option<Result<(), RecordError>>) {
    let (mut all, mut space) = (Vec::new(), Vec::new());
    for piece in sent.chunks(piece) {
        space.extend_from_slice(piece);
        let opened = session.open(&mut space, || now);
        all.extend_from_slice(&space[..opened.data]);
        space.drain(..opened.rest.start);
        if opened.end.is_some() {
            return (all, opened.end);
        }
    }
    (all, None)
}

fn seal(session: &mut RecordLayer, plain: &[u8]) -> Vec<u8> {
    let (mut all, mut left) = (Vec::new(), plain);
    let mut room = vec![0; 40_000];
    while !left.is_empty() {
        let (taken, written) = session.seal(left, &mut room).unwrap();
        all.extend_from_slice(&room[..written]);
        left = &left[taken..];
    }
    all
}

#[derive(Debug, Clone)]
enum Move {
    /// Data, which comes in pieces of so many bytes.
    Up(Vec<u8>, usize),
    Down(Vec<u8>),
    /// The client changes its key and asks for the same in return.
    Refresh,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let data = || prop_oneof![0..100_usize, 16_300..16_500_usize, 0..50_000_usize];
    let bytes = || (data(), any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
    let piece = prop_oneof![100..1000_usize, 16_380..16_410_usize, Just(65_536)];
    let one = prop_oneof![
        (bytes(), piece).prop_map(|(bytes, piece)| Move::Up(bytes, piece)),
        bytes().prop_map(Move::Down),
        Just(Move::Refresh),
    ];
    prop::collection::vec(one, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rustls_and_a_session_understand_each_other(suite in 0..3_usize, limit in 1..6_u64, moves in moves()) {
        let (mut session, mut client) = pair(SUITES[suite]);
        session.limit = limit;
        for one in moves {
            match one {
                Move::Up(bytes, piece) => {
                    let sent = say(&mut client, &bytes);
                    let (heard, opened) = read(&mut session, &sent, piece);
                    prop_assert_eq!(opened, None);
                    prop_assert!(heard == bytes);
                }
                Move::Down(bytes) => {
                    let sent = seal(&mut session, &bytes);
                    prop_assert!(session.sealing.used() <= limit);
                    prop_assert!(hear(&mut client, &sent) == bytes);
                }
                Move::Refresh => {
                    client.refresh_traffic_keys().unwrap();
                    // rustls bounds them as well.
                    let (_, opened) = read(&mut session, &say(&mut client, b"!"), 10);
                    prop_assert_eq!(opened, None);
                    prop_assert!(session.is_stale());
                    hear(&mut client, &seal(&mut session, b"!"));
                    prop_assert!(!session.updates.is_key_update_pending());
                }
            }
        }
        let mut end = [0; 100];
        let length = session.seal_alert(AlertDescription::CloseNotify, &mut end).unwrap();
        client.read_tls(&mut &end[..length]).unwrap();
        prop_assert!(client.process_new_packets().unwrap().peer_has_closed());
        client.send_close_notify();
        let (_, opened) = read(&mut session, &say(&mut client, b""), 10);
        prop_assert_eq!(opened, Some(Ok(())));
    }

    #[test]
    fn a_record_that_was_changed_anywhere_is_no_record(suite in 0..3_usize, length in 0..200_usize, place: prop::sample::Index, bit in 0..8_u8) {
        let (mut session, mut keys) = forger(SUITES[suite]);
        let mut record = forge(&mut keys, ContentType::ApplicationData, &vec![7; length]);
        let place = place.index(record.len());
        record[place] ^= 1 << bit;
        // A length that grew asks for more than there is.
        record.resize(LONGEST, 0);
        let (heard, opened) = read(&mut session, &record, 1000);
        prop_assert!(heard.is_empty());
        prop_assert!(matches!(opened, Some(Err(_))), "{:?}", opened);
    }

    #[test]
    fn nothing_that_a_peer_seals_makes_a_session_panic(suite in 0..3_usize, records in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..12)), 1..50), piece in 1..40_usize) {
        let (mut session, mut keys) = forger(SUITES[suite]);
        let sent: Vec<u8> = records
            .iter()
            .flat_map(|(kind, content)| forge(&mut keys, ContentType::from(*kind), content))
            .collect();
        let (heard, _) = read(&mut session, &sent, piece);
        prop_assert!(heard.len() <= records.iter().map(|(_, content)| content.len()).sum());
    }
}

fn forge(keys: &mut RecordKeys, kind: ContentType, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; content.len() + OVERHEAD];
    let key = keys.expand();
    keys.seal(&key, kind, content, &mut record).unwrap();
    record
}

/// What comes of records with these contents, one after another, and then of data.
fn outcome(records: &[(ContentType, &[u8])]) -> Result<Vec<u8>, RecordError> {
    let (mut session, mut keys) = forger(TLS13_AES_128_GCM_SHA256);
    let mut all = Vec::new();
    for &(kind, content) in records
        .iter()
        .chain(&[(ContentType::ApplicationData, &b"!"[..])])
    {
        let (heard, opened) = read(&mut session, &forge(&mut keys, kind, content), 20_000);
        all.extend(heard);
        match opened {
            None => {}
            Some(Ok(())) => break,
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(all)
}

fn heard(records: &[(ContentType, &[u8])]) -> Vec<u8> {
    outcome(records).unwrap()
}

fn error(records: &[(ContentType, &[u8])]) -> RecordError {
    outcome(records).unwrap_err()
}

#[test]
fn what_may_come_comes_and_nothing_else() {
    use ContentType::{Alert, ApplicationData as Data, ChangeCipherSpec};
    let largest = vec![1; MAX_PLAINTEXT];
    let padded = |content: &[u8], kind: ContentType| {
        let mut all = content.to_vec();
        all.push(kind.into());
        all.extend([0; 40]);
        all
    };
    let zero = ContentType::Unknown(0);

    assert_eq!(heard(&[(Data, b"a"), (Data, b""), (Data, b"b")]), b"ab!");
    assert_eq!(heard(&[(zero, &padded(b"padded", Data))]), b"padded!");
    assert_eq!(heard(&[(Data, &largest)]).len(), MAX_PLAINTEXT + 1);
    assert_eq!(heard(&[(Alert, &[1, 90])]), b"!", "user_canceled");
    assert_eq!(
        heard(&[(Alert, &[1, 0])]),
        b"",
        "what follows the end is nothing"
    );
    assert_eq!(heard(&[(zero, &padded(&[2, 0], Alert))]), b"");

    assert_eq!(
        error(&[(zero, b"")]),
        RecordError::Unexpected,
        "no type at all"
    );
    assert_eq!(error(&[(zero, &[0; 100])]), RecordError::Unexpected);
    let mut larger = largest.clone();
    larger.push(23);
    assert_eq!(
        error(&[(zero, &larger)]),
        RecordError::Oversized,
        "with its padding"
    );
    assert_eq!(error(&[(ChangeCipherSpec, &[1])]), RecordError::Unexpected);
    assert_eq!(error(&[(Alert, &[2])]), RecordError::Malformed);
    assert_eq!(error(&[(Alert, &[2, 40, 2, 40])]), RecordError::Malformed);
    assert_eq!(
        error(&[(Alert, &[2, 80])]),
        RecordError::Alert(AlertDescription::InternalError)
    );
}

#[test]
fn of_handshake_messages_only_a_whole_key_update_may_come() {
    use ContentType::{Alert, ApplicationData as Data, Handshake};
    for kind in [0, 1, 2, 4, 5, 11, 13, 15, 20, 254] {
        let message = [kind, 0, 0, 1, 0];
        assert_eq!(
            error(&[(Handshake, &message)]),
            RecordError::Unexpected,
            "{kind}"
        );
    }
    assert_eq!(error(&[(Handshake, b"")]), RecordError::Unexpected);
    assert_eq!(
        error(&[(Handshake, &[24, 0, 0, 2, 0])]),
        RecordError::Malformed
    );
    for wrong in [&[24, 0, 0, 0][..], &[24, 0, 0, 2], &[24, 0, 1], &[24, 1]] {
        let (mut session, mut keys) = forger(TLS13_AES_128_GCM_SHA256);
        let sent = forge(&mut keys, Handshake, wrong);
        let (_, opened) = read(&mut session, &sent, 20_000);
        assert_eq!(
            opened,
            Some(Err(RecordError::Malformed)),
            "at once: {wrong:?}"
        );
    }
    assert_eq!(
        error(&[(Handshake, &[24, 0, 0, 1, 2])]),
        RecordError::Illegal
    );
    assert_eq!(
        error(&[(Handshake, &[24, 0, 0, 1, 0, 24])]),
        RecordError::Unexpected
    );
    let begun: (_, &[u8]) = (Handshake, &[24, 0]);
    assert_eq!(error(&[begun, (Data, b"a")]), RecordError::Unexpected);
    assert_eq!(error(&[begun, (Alert, &[1, 0])]), RecordError::Unexpected);
    // The data that follows would have to be sealed with the next key.
    assert_eq!(error(&[(Handshake, &KEY_UPDATE)]), RecordError::Forged);
    assert_eq!(
        error(&[begun, (Handshake, &KEY_UPDATE[2..])]),
        RecordError::Forged
    );
}

const KEY_UPDATE: [u8; 5] = post_handshake::KEY_UPDATE;

/// How many records, with data behind each, are taken until there are too many, some after so many
/// milliseconds.
fn taken(
    pauses: &[u64],
    mut record: impl FnMut(&mut RecordKeys) -> Vec<u8>,
) -> (usize, RecordError) {
    let (mut session, mut keys) = forger(TLS13_AES_128_GCM_SHA256);
    let mut now = *START;
    for n in 0.. {
        now += Duration::from_millis(pauses.get(n).copied().unwrap_or(0));
        let record = record(&mut keys);
        let data = forge(&mut keys, ContentType::ApplicationData, b"!");
        let sent = [record, data].concat();
        if let (_, Some(Err(error))) = read_at(now, &mut session, &sent, 20_000) {
            return (n, error);
        }
    }
    unreachable!("it is bounded");
}

#[test]
fn what_is_no_data_has_a_budget_per_time_that_data_does_not_fill() {
    let empty = |keys: &mut RecordKeys| forge(keys, ContentType::ApplicationData, b"");
    let warning = |keys: &mut RecordKeys| forge(keys, ContentType::Alert, &[1, 90]);
    assert_eq!(taken(&[], empty), (256, RecordError::EmptyRecords));
    assert_eq!(taken(&[], warning), (32, RecordError::Messages));
    assert_eq!(
        taken(&[0, 50, 60, 200], warning),
        (35, RecordError::Messages)
    );
    assert_eq!(taken(&[3; 1000], empty).0, 999 + 256);
}

#[test]
fn key_updates_with_data_between_them_are_bounded_too() {
    let (mut session, mut client) = pair(TLS13_AES_128_GCM_SHA256);
    let mut update = |now: Instant| {
        client.refresh_traffic_keys().unwrap();
        let sent = say(&mut client, b"!");
        let (_, opened) = read_at(now, &mut session, &sent, 20_000);
        // Each answer takes the request from it, so that rustls has no limit either.
        hear(&mut client, &seal(&mut session, b"!"));
        opened
    };
    for _ in 0..32 {
        assert_eq!(update(*START), None);
    }
    for n in 1..10 {
        assert_eq!(update(*START + n * Duration::from_millis(100)), None);
    }
    let later = *START + Duration::from_millis(999);
    assert_eq!(update(later), Some(Err(RecordError::Messages)));
}

#[test]
fn many_requests_for_a_key_update_are_answered_once() {
    let (mut session, mut client) = pair(TLS13_AES_128_GCM_SHA256);
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
    }
    let sent = say(&mut client, b"a");
    assert_eq!(read(&mut session, &sent, 100), (b"a".to_vec(), None));
    let answer = seal(&mut session, b"b");
    assert_eq!(answer.len(), OVERHEAD + KEY_UPDATE.len() + OVERHEAD + 1);
    assert_eq!(hear(&mut client, &answer), b"b");
}

#[test]
fn a_header_tells_a_length_or_what_is_wrong_with_it() {
    let too_long = u16::try_from(MAX_CIPHERTEXT + 1).unwrap().to_be_bytes();
    for (bytes, expected) in [
        (&[][..], Ok(None)),
        (&[23, 3, 3, 0], Ok(None)),
        (&[23, 3, 3, 0, 16], Ok(Some(21))),
        (&[23, 3, 3, 0x41, 0], Ok(Some(LONGEST))),
        (
            &[23, 3, 3, too_long[0], too_long[1]],
            Err(RecordError::Oversized),
        ),
        (&[23, 3, 3, 0, 15], Err(RecordError::Forged)),
        (&[20], Err(RecordError::Unexpected)),
        (&[21, 3, 3, 0, 2, 1, 0], Err(RecordError::Unexpected)),
        (&[22, 3, 3], Err(RecordError::Unexpected)),
    ] {
        assert_eq!(length(bytes), expected, "{bytes:?}");
    }
}
