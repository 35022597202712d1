//! The demo's table: each client's visit and its result.

use host::table::{ColumnAlign, TextTable};

/// Row of the table: one client's visit and its result.
#[derive(Debug)]
pub struct ResultRow {
    /// Name of the client.
    pub client: String,
    /// Name that it asked for.
    pub sni: String,
    /// The result, in a few words.
    pub result: String,
    /// The expected result and what is known of the actual one, if they differ.
    pub mistake: Option<String>,
}

impl ResultRow {
    /// Returns true if the result is the expected one.
    pub fn is_as_expected(&self) -> bool {
        self.mistake.is_none()
    }
}

/// Formats the table of all rows, followed by those that are not as expected.
pub fn report(rows: &[ResultRow], width: Option<usize>) -> String {
    let names = ["CLIENT", "WANTS", "RESULT"];
    let mut table = TextTable::new(names.map(|name| (name, ColumnAlign::Left)));
    for row in rows {
        table.push([&row.client, &row.sni, &row.result].map(String::clone));
    }
    let wrong = rows.iter().filter_map(|row| {
        let mistake = row.mistake.as_ref()?;
        let ResultRow { client, sni, .. } = row;
        Some(format!("NOT AS EXPECTED: {client} to {sni}: {mistake}\n"))
    });
    let mut verdict: String = wrong.collect();
    if verdict.is_empty() {
        "All results are as expected: the policy grants what was served, and no more.\n"
            .clone_into(&mut verdict);
    }
    format!("\n{}\n{verdict}", table.to_text(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(result: &str, mistake: Option<&str>) -> ResultRow {
        ResultRow {
            client: "alice".to_owned(),
            sni: "db".to_owned(),
            result: result.to_owned(),
            mistake: mistake.map(str::to_owned),
        }
    }

    #[test]
    fn a_result_that_is_not_as_expected_is_told_below_the_table() {
        let rows = [
            row("served by upstream-1", None),
            row("refused: none", Some("why")),
        ];
        let text = report(&rows, None);
        assert!(
            text.ends_with("\n\nNOT AS EXPECTED: alice to db: why\n"),
            "{text}"
        );
        assert!(!text.contains("All results"), "{text}");
        assert!(report(&rows[..1], None).contains("All results are as expected"));
    }
}
