//! Spans of time on the command line.

use time::Duration;

/// Parses a span like `30d`: a positive number and one of `w`, `d`, `h`, `m`, `s`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let units = [
        ('w', 604_800),
        ('d', 86_400),
        ('h', 3600),
        ('m', 60),
        ('s', 1),
    ];
    let wrong = || "expected a number with one of w, d, h, m, s, such as 30d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let (_, seconds) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    let digits = &text[..text.len() - unit.len_utf8()];
    let count: u32 = digits.parse().map_err(|_| wrong())?;
    if count == 0 {
        return Err("zero is too short; expected a duration such as 30d".to_owned());
    }
    Ok(Duration::seconds(i64::from(count) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_its_unit() {
        assert_eq!(span("30d"), Ok(Duration::days(30)));
        assert_eq!(span("90m"), Ok(Duration::minutes(90)));
        for bad in ["", "d", "30", "0d", "-1d", "1.5h", "30ü", "99999999999d"] {
            assert!(span(bad).is_err(), "{bad:?}");
        }
    }
}
