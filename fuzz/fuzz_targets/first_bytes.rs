//! Whatever a connection begins with has one name, which more bytes do not change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tls::first_bytes::{ENOUGH, FirstBytes};

fuzz_target!(|bytes: &[u8]| {
    let name = FirstBytes::of(bytes);
    assert_eq!(FirstBytes::of(&bytes[..bytes.len().min(ENOUGH)]), name);
    assert_eq!(name == FirstBytes::Nothing, bytes.is_empty());
    assert_eq!(name.is_tls(), bytes.first() == Some(&22));
    let mut known = None;
    for end in 0..=bytes.len().min(ENOUGH) {
        let now = FirstBytes::of(&bytes[..end]);
        if let Some(known) = known {
            assert_eq!(now, known, "after {end} bytes");
        }
        if !matches!(now, FirstBytes::Nothing | FirstBytes::Unknown) {
            known = Some(now);
        }
    }
    assert!(!name.to_string().is_empty());
});
