//! The gateway's record layer and rustls' own as servers of one handshake: they get the same bytes
//! of a client, and what they hear, where they end and what they answer is compared.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use rustls::{Error, ServerConnection};
use tls::record_layer::{RecordError, RecordLayer};

use crate::client::{Client, Move, pieces};
use crate::configs;
use crate::listed;

/// What one comparison is made of: what the client does, how its bytes are cut, and how many bytes
/// are answered.
#[derive(Debug, Arbitrary)]
pub struct Input {
    pub moves: Vec<Move>,
    pub pieces: Vec<u16>,
    pub answer: u16,
}

/// What came of a comparison in which there was no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// Both go on, and can be given another input.
    Open,
    /// Both have ended.
    Ended,
    /// Both have ended, with a difference that is meant.
    Listed,
    /// There was nothing to compare: the input is about a difference that is meant.
    Skipped,
}

/// A difference that nobody means.
#[derive(Debug)]
pub struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says what differs, unless that holds.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Difference> {
    if holds {
        Ok(())
    } else {
        Err(Difference(what()))
    }
}

/// What one side made of the client's bytes.
struct Heard<E> {
    data: Vec<u8>,
    /// `None` if more may come, `Ok` after a `close_notify`.
    end: Option<Result<(), E>>,
}

/// The gateway's record layer, rustls' own, and a client of both.
pub struct Servers {
    ours: RecordLayer,
    theirs: ServerConnection,
    client: Client,
    /// What came and was not opened by ours.
    space: Vec<u8>,
    now: Instant,
    /// Whether the client may have asked for a key update that it has not got yet.
    may_owe: bool,
    /// Whether half a handshake message of the client may be left.
    has_pieces: bool,
}

impl Servers {
    /// A handshake with one of the suites.
    pub fn new(suite: u8) -> Self {
        let configs = configs::of(suite);
        let ends = configs::handshake(configs);
        let mut theirs = ServerConnection::new(Arc::clone(&configs.server)).expect("a server");
        theirs.set_buffer_limit(None);
        let mut said = &ends.sent[..];
        while !said.is_empty() {
            theirs.read_tls(&mut said).expect("it has room");
            theirs.process_new_packets().expect("the same handshake");
        }
        while theirs.wants_write() {
            let written = theirs.write_tls(&mut std::io::sink());
            written.expect("it takes everything");
        }
        assert!(!theirs.is_handshaking());
        Self {
            ours: RecordLayer::after(ends.server).expect("the handshake is over"),
            theirs,
            client: Client::after(ends.client),
            space: Vec::new(),
            now: Instant::now(),
            may_owe: false,
            has_pieces: false,
        }
    }

    /// Gives both the same, and compares what comes of it.
    pub fn compare(&mut self, input: &Input) -> Result<Same, Difference> {
        let mut come = Vec::new();
        for one in input.moves.iter().take(24) {
            self.client.make(one, &mut come);
        }
        self.may_owe |= input.moves.iter().any(Move::may_request);
        self.has_pieces |= input.moves.iter().any(Move::may_leave_half);
        if input.moves.iter().any(Move::is_empty_handshake) {
            return Ok(Same::Skipped);
        }
        // What is half there stands before what comes now.
        let begun = self.space.len();
        let wire = [&self.space[..], &come].concat();
        let sound = listed::sound(&wire).saturating_sub(begun);
        let (sound, other) = come.split_at(sound);
        match self.compare_sound(sound, input)? {
            Same::Open if !other.is_empty() => self.refuse(other),
            same => Ok(same),
        }
    }

    fn compare_sound(&mut self, wire: &[u8], input: &Input) -> Result<Same, Difference> {
        let theirs = self.they_hear(wire, &input.pieces);
        if matches!(&theirs.end, Some(Err(error)) if listed::is_limit(error)) {
            return Ok(Same::Skipped);
        }
        let ours = self.we_hear(wire, &input.pieces);
        if let Some(Err(Error::AlertReceived(alert))) = &theirs.end {
            ensure(listed::is_same_alert(*alert, ours.end), || {
                format!("{:?} instead of {alert:?}", ours.end)
            })?;
            return Ok(Same::Ended);
        }
        ensure(ours.data == theirs.data, || {
            let (ours, theirs) = (ours.data.len(), theirs.data.len());
            format!("{ours} bytes of data instead of {theirs}, or others")
        })?;
        self.compare_ends(ours.end, theirs.end, input.answer)
    }

    /// Sees ours refuse what rustls may open: a header that no sealed record has.
    fn refuse(&mut self, wire: &[u8]) -> Result<Same, Difference> {
        let is_other_type = self.space.first().or(wire.first()) != Some(&23);
        let ours = self.we_hear(wire, &[]);
        let is_refused = match ours.end {
            Some(Err(RecordError::Unexpected)) => is_other_type,
            Some(Err(RecordError::Forged | RecordError::Oversized)) | None => !is_other_type,
            Some(_) => false,
        };
        ensure(ours.data.is_empty() && is_refused, || {
            format!("{:?} at another header", ours.end)
        })?;
        Ok(Same::Listed)
    }

    fn compare_ends(
        &mut self,
        ours: Option<Result<(), RecordError>>,
        theirs: Option<Result<(), Error>>,
        answer: u16,
    ) -> Result<Same, Difference> {
        match (ours, &theirs) {
            (Some(Err(record_error)), Some(Err(error))) => {
                let answer = self.we_answer(ours, &[]);
                if self.they_answer(true, &[]) == Some(answer) {
                    return Ok(Same::Ended);
                }
                // rustls sends a key update that is owed before an alert, the gateway before data
                // only.
                let is_listed = self.may_owe
                    || self.has_pieces && listed::is_early(record_error)
                    || listed::is_other_alert(record_error, error);
                ensure(is_listed, || {
                    format!("another alert: {record_error:?} instead of {error:?}")
                })?;
                Ok(Same::Listed)
            }
            (Some(Err(record_error)), None) => {
                ensure(listed::is_early(record_error), || {
                    format!("{record_error:?}, where rustls goes on")
                })?;
                Ok(Same::Listed)
            }
            (end, theirs) => {
                ensure(
                    end.map(|end| end.is_ok()) == theirs.as_ref().map(Result::is_ok),
                    || format!("{end:?} instead of {theirs:?}"),
                )?;
                let content = vec![3; usize::from(answer)];
                let ours = self.we_answer(end, &content);
                let Some(theirs) = self.they_answer(false, &content) else {
                    return Ok(Same::Listed);
                };
                ensure(listed::is_same_answer(&ours, &theirs), || {
                    format!("another answer after {end:?}")
                })?;
                self.may_owe &= answer == 0;
                Ok(if end.is_some() {
                    Same::Ended
                } else {
                    Same::Open
                })
            }
        }
    }

    fn we_hear(&mut self, wire: &[u8], sizes: &[u16]) -> Heard<RecordError> {
        let mut data = Vec::new();
        let now = std::cell::Cell::new(self.now);
        let mut end = None;
        for piece in pieces(wire, sizes) {
            self.space.extend_from_slice(piece);
            // Each look at the clock comes an hour after the one before: limits by time are not
            // compared.
            let opened = self.ours.open(&mut self.space, || {
                now.set(now.get() + Duration::from_secs(3600));
                now.get()
            });
            data.extend_from_slice(&self.space[..opened.data]);
            self.space.drain(..opened.rest.start);
            end = opened.end;
            if end.is_some() {
                break;
            }
        }
        self.now = now.get();
        Heard { data, end }
    }

    fn they_hear(&mut self, wire: &[u8], sizes: &[u16]) -> Heard<Error> {
        let mut data = Vec::new();
        for mut piece in pieces(wire, sizes) {
            while !piece.is_empty() {
                let read = self.theirs.read_tls(&mut piece);
                read.expect("what came is read at once");
                let processed = self.theirs.process_new_packets();
                let mut some = [0; 4096];
                while let Ok(read @ 1..) = self.theirs.reader().read(&mut some) {
                    data.extend_from_slice(&some[..read]);
                }
                let end = match processed {
                    Err(error) => Some(Err(error)),
                    Ok(state) if state.peer_has_closed() => Some(Ok(())),
                    Ok(_) => None,
                };
                if end.is_some() {
                    return Heard { data, end };
                }
            }
        }
        Heard { data, end: None }
    }

    /// What is sent after all that: data, behind a key update if one is owed, or an alert.
    fn we_answer(&mut self, end: Option<Result<(), RecordError>>, answer: &[u8]) -> Vec<u8> {
        let mut room = vec![0; answer.len() + 512];
        let written = match end {
            Some(Err(record_error)) => match record_error.alert() {
                Some(alert) => self.ours.seal_alert(alert, &mut room),
                None => Ok(0),
            },
            Some(Ok(())) | None => self
                .ours
                .seal(answer, &mut room)
                .map(|(_, written)| written),
        };
        room.truncate(written.expect("it has room"));
        room
    }

    /// What rustls sends, unless it can send no more: it makes no key update at the end of a key
    /// while half a handshake message is there.
    fn they_answer(&mut self, failed: bool, answer: &[u8]) -> Option<Vec<u8>> {
        let mut left = if failed { &[] } else { answer };
        while !left.is_empty() {
            let taken = self.theirs.writer().write(left);
            match taken.expect("it has no limit") {
                0 if self.has_pieces => return None,
                0 => panic!("rustls sends no more"),
                taken => left = &left[taken..],
            }
        }
        let mut wire = Vec::new();
        while self.theirs.wants_write() {
            let written = self.theirs.write_tls(&mut wire);
            written.expect("it takes everything");
        }
        Some(wire)
    }
}
