//! Whatever a client seals, and however it is cut on its way, no more is heard than was said, and
//! all of it unless the client broke the protocol.
#![no_main]

use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::client::{pair, pieces};
use rustls::ContentType;

#[derive(Debug, Arbitrary)]
enum Step {
    Say(Vec<u8>),
    SayMuch { byte: u8, length: u16 },
    UpdateKey { and_theirs: bool },
    Seal { kind: u8, content: Vec<u8> },
    Raw(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Input {
    suite: u8,
    steps: Vec<Step>,
    pieces: Vec<u16>,
}

fuzz_target!(|input: Input| {
    let (mut session, mut client) = pair(input.suite);
    let (mut said, mut wire, mut honest) = (Vec::new(), Vec::new(), true);
    for one in input.steps.iter().take(31) {
        match one {
            Step::Say(content) => {
                said.extend_from_slice(content);
                client.seal(ContentType::ApplicationData, content, &mut wire);
            }
            &Step::SayMuch { byte, length } => {
                let content = vec![byte; usize::from(length) % (1 << 14)];
                client.seal(ContentType::ApplicationData, &content, &mut wire);
                said.extend(content);
            }
            &Step::UpdateKey { and_theirs } => client.update_key(and_theirs, 0, &mut wire),
            Step::Seal { kind, content } => {
                // It may be data with padding.
                said.extend_from_slice(content);
                client.seal(ContentType::from(*kind), content, &mut wire);
                honest = false;
            }
            Step::Raw(bytes) => {
                wire.extend_from_slice(bytes);
                honest = false;
            }
        }
    }

    let (mut heard, mut space, mut end) = (Vec::new(), Vec::new(), None);
    for piece in pieces(&wire, &input.pieces) {
        space.extend_from_slice(piece);
        let opened = session.open(&mut space, Instant::now);
        heard.extend_from_slice(&space[..opened.data]);
        space.drain(..opened.rest.start);
        end = opened.end;
        if end.is_some() {
            break;
        }
    }
    if honest {
        assert_eq!(end, None);
        assert!(heard == said, "what was said arrives");
    } else {
        assert!(
            heard.len() <= said.len(),
            "nothing is heard that was not said"
        );
    }
});
