//! After the same handshake and the same bytes of a client, the gateway's record layer hears what
//! rustls' own hears, ends where it ends, and answers with the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::beside_rustls::{Input, Servers};

fuzz_target!(|input: (u8, Input)| {
    let (suite, input) = input;
    if let Err(difference) = Servers::new(suite).compare(&input) {
        panic!("{difference}");
    }
});
