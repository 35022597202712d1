//! Small state spaces of the record layer, looked at whole.

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::*;

/// How long a key update is as a record.
const UPDATE: usize = OVERHEAD + KEY_UPDATE.len();

/// rustls' own means to open what a session sends. They open the record with this number and no
/// other.
struct Judge {
    schedule: KernelConnection<ClientConnectionData>,
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
    /// The most records that came under one key.
    most: u64,
}

impl Judge {
    /// A session and its judge.
    fn new() -> (RecordLayer, Self) {
        let (session, client) = ends(TLS13_AES_128_GCM_SHA256);
        let (secrets, schedule) = client.dangerous_into_kernel_connection().unwrap();
        let judge = Self {
            sequence: secrets.rx.0,
            decrypter: decrypter(secrets.rx.1),
            schedule,
            most: 0,
        };
        (session, judge)
    }

    /// Opens what was sent. Returns the records' types and contents.
    fn open(&mut self, mut sent: &[u8]) -> Vec<(ContentType, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(next) = length(sent).unwrap() {
            let mut record = sent[HEADER..next].to_vec();
            sent = &sent[next..];
            let kind = ContentType::ApplicationData;
            let message = InboundOpaqueMessage::new(kind, ProtocolVersion::TLSv1_2, &mut record);
            let opened = self.decrypter.decrypt(message, self.sequence);
            let opened = opened.expect("it has the next nonce");
            self.sequence += 1;
            self.most = self.most.max(self.sequence);
            all.push((opened.typ, opened.payload.to_vec()));
            if opened.payload == KEY_UPDATE {
                let (sequence, secrets) = self.schedule.update_rx_secret().unwrap();
                self.sequence = sequence;
                self.decrypter = decrypter(secrets);
            }
        }
        assert!(sent.is_empty(), "only whole records are sent");
        all
    }
}

fn decrypter(secrets: ConnectionTrafficSecrets) -> Box<dyn MessageDecrypter> {
    let aead = TLS13_AES_128_GCM_SHA256.tls13().unwrap().aead_alg;
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        unreachable!("no other suite was offered")
    };
    aead.decrypter(key, iv)
}

/// The peer asks for a key update, long after it did so before.
fn ask(session: &mut RecordLayer, now: &mut Instant) {
    *now += Duration::from_secs(1);
    let request = [24, 0, 0, 1, 1, ContentType::Handshake.into()];
    let taken = session.updates.take(&request, || *now);
    assert!(matches!(taken, Ok(RecordContent::KeyUpdate)));
}

/// What a session may have to send.
#[derive(Debug, Clone, Copy)]
enum Send {
    Data,
    Nothing,
    /// Data, after the peer asked for a key update.
    Asked,
    Alert,
}

const SENDS: [Send; 4] = [Send::Data, Send::Nothing, Send::Asked, Send::Alert];
const LONGEST_SEQUENCE: u32 = 5;

impl Send {
    /// Has it sent. Returns how long that is, which is nothing for an alert for which the key has
    /// no room: it is the last of a connection, so what is behind it has none for a key update.
    fn by(self, session: &mut RecordLayer, now: &mut Instant, room: &mut [u8]) -> usize {
        match self {
            Self::Data => session.seal(b"data", room).unwrap().1,
            Self::Nothing => session.seal_nothing(room).unwrap(),
            Self::Asked => {
                ask(session, now);
                session.seal(b"data", room).unwrap().1
            }
            Self::Alert if session.sealing.used() + 2 > session.limit => 0,
            Self::Alert => {
                let alert = AlertDescription::UserCanceled;
                session.seal_alert(alert, room).unwrap()
            }
        }
    }
}

#[test]
fn every_short_sequence_of_what_is_sent_has_a_new_nonce_each_and_keeps_to_the_keys_limit() {
    for limit in 2..=4_u64 {
        let (mut session, mut judge) = Judge::new();
        session.limit = limit;
        let mut now = *START;
        // One sequence follows the other, so each begins in every state that one can end in.
        for number in 0..SENDS.len().pow(LONGEST_SEQUENCE) {
            for place in 0..LONGEST_SEQUENCE {
                let one = SENDS[number / SENDS.len().pow(place) % SENDS.len()];
                let mut room = [0; 100];
                let written = one.by(&mut session, &mut now, &mut room);
                judge.open(&room[..written]);
                assert!(judge.most <= limit, "{} records", judge.most);
            }
        }
    }
}

#[test]
fn of_three_records_in_every_order_only_the_next_is_opened() {
    for number in 0..27_usize {
        let order = [number % 3, number / 3 % 3, number / 9];
        let (mut session, mut keys) = forger(TLS13_AES_128_GCM_SHA256);
        let records = [b"a", b"b", b"c"]
            .map(|content| forge(&mut keys, ContentType::ApplicationData, content));
        let sent = order.map(|index| records[index].clone()).concat();
        let (heard, end) = read(&mut session, &sent, 20_000);
        let in_order = order
            .iter()
            .enumerate()
            .take_while(|(n, index)| n == *index);
        let right = in_order.count();
        assert_eq!(heard, b"abc"[..right], "{order:?}");
        let expected = (right < 3).then_some(Err(RecordError::Forged));
        assert_eq!(end, expected, "{order:?}");
    }
}

#[test]
fn whatever_there_is_to_seal_and_whatever_room_it_fits_and_nothing_is_lost() {
    let plain: Vec<u8> = (0..=MAX_PLAINTEXT + 2)
        .map(|n| n.to_le_bytes()[0])
        .collect();
    let lengths = (0..30).chain(MAX_PLAINTEXT - 1..=MAX_PLAINTEXT + 2);
    let (mut session, mut judge) = Judge::new();
    let mut now = *START;
    for length in lengths {
        for room in (0..80).chain(MAX_PLAINTEXT..MAX_PLAINTEXT + 80) {
            for is_asked in [false, true] {
                if is_asked {
                    ask(&mut session, &mut now);
                }
                let mut out = vec![0; room];
                let (taken, written) = session.seal(&plain[..length], &mut out).unwrap();
                let ahead = if is_asked { UPDATE } else { 0 };
                let most = room.saturating_sub(ahead + OVERHEAD).min(length);
                let case = format!("{length} bytes, room for {room}, asked: {is_asked}");
                assert!(taken <= most && (taken > 0) == (most > 0), "{case}");
                let come = judge.open(&out[..written]);
                let data = come
                    .iter()
                    .filter(|(kind, _)| *kind == ContentType::ApplicationData);
                let data = data.map(|(_, content)| &content[..]).collect::<Vec<_>>();
                assert!(
                    data.iter().all(|content| content.len() <= MAX_PLAINTEXT),
                    "{case}"
                );
                assert!(data.concat() == plain[..taken], "{case}");
                assert_eq!(
                    come.len() - data.len(),
                    usize::from(is_asked && written > 0),
                    "{case}"
                );
                // What had no room is owed still.
                session.updates.clear_key_update();
            }
        }
    }
}
