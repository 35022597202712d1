//! Times as records and log events contain them.

use time::OffsetDateTime;

/// Returns the current time in RFC 3339: UTC, with six digits of a second, so that all are equally
/// long and sort as text.
pub fn now() -> String {
    timestamp(OffsetDateTime::now_utc())
}

fn timestamp(utc: OffsetDateTime) -> String {
    let (date, time) = (utc.date(), utc.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_same_width_whatever_it_is() {
        let micros = |micros: i128| OffsetDateTime::from_unix_timestamp_nanos(micros * 1000);
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_796_054_970_500_000, "2026-11-30T16:09:30.500000Z"),
            (1_796_054_970_000_007, "2026-11-30T16:09:30.000007Z"),
        ] {
            assert_eq!(timestamp(micros(time).unwrap()), text);
        }
        assert_eq!(now().len(), "1970-01-01T00:00:00.000000Z".len());
    }
}
