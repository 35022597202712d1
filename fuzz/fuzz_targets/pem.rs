//! Of a text that is read as PEM nothing is lost: each BEGIN and END outside of comments is a
//! section's, and what another reader finds in it is found too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::pem::{PemObject, SectionKind};

fuzz_target!(|bytes: &[u8]| {
    let Ok(sections) = strict_pem::read(bytes) else {
        return;
    };
    let text = std::str::from_utf8(bytes).expect("what is not text is an error");
    let plain: Vec<&str> = text
        .split(['\n', '\r'])
        .filter(|line| {
            !line
                .trim_start()
                .trim_start_matches('\u{feff}')
                .trim_start()
                .starts_with('#')
        })
        .collect();
    let plain = plain.join("\n");
    assert_eq!(plain.matches("-----BEGIN ").count(), sections.len());
    assert_eq!(plain.matches("-----END ").count(), sections.len());
    assert!(sections.iter().all(|section| !section.der.is_empty()));
    let lines = 1 + text.matches(['\n', '\r']).count();
    assert!(sections.iter().all(|section| section.line <= lines));
    assert!(sections.is_sorted_by_key(|section| section.line));
    let others = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
    for (_, der) in others.filter_map(Result::ok) {
        assert!(sections.iter().any(|section| section.der == der));
    }
});
