//! `portcullis demo`: certificates, upstreams, a gateway and its clients, all in one process.

mod arguments;
mod error;
mod setup;

use std::io::{self, Write as _};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use arguments::DemoArguments;
pub(crate) use error::DemoError;

use ::demo::client::DemoVisit;
use ::demo::result_row::{ResultRow, report};
use host::table::terminal_width;
use setup::DemoSetup;

/// Introduction that is printed first.
const OPENING: &str = "\
This demo issues certificates, starts a gateway and its upstreams on loopback,
connects as several clients, and shows the result of each.
";

/// Result of the demo as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DemoResult {
    /// Every visit ended as expected.
    AsExpected,
    /// A visit ended otherwise; the table tells which.
    NotAsExpected,
}

/// Runs `portcullis demo`.
///
/// Unless [`DemoArguments`] has `--once`, it serves until an interrupt or a termination signal.
///
/// # Errors
///
/// A [`DemoError`] if the certificates, the upstreams, the gateway or the clients cannot be set up.
pub(crate) fn demo(arguments: &DemoArguments) -> Result<DemoResult, DemoError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        say(OPENING)?;
        let mut stage = DemoSetup::start(arguments).await?;
        let rows = run_all(&mut stage).await?;
        say(&report(&rows, terminal_width()))?;
        if arguments.once {
            say(&stage.next())?;
        } else {
            say(&stage.invitation())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted?,
                _ = terminate.recv() => {}
            }
        }
        stage.stop().await;
        Ok(if rows.iter().all(ResultRow::is_as_expected) {
            DemoResult::AsExpected
        } else {
            DemoResult::NotAsExpected
        })
    })
}

/// Makes all visits of the demo and returns a row of the table for each.
async fn run_all(stage: &mut DemoSetup) -> Result<Vec<ResultRow>, DemoError> {
    let visits = [
        DemoVisit::served("standard-client", "ui-servers"),
        DemoVisit::served("standard-client", "backend-servers"),
        DemoVisit::served("special-premium-client", "special-premium-servers"),
        DemoVisit::denied("free-trial-client", "backend-servers", "not_granted"),
        DemoVisit::denied("standard-client", "no-such-group", "unknown_sni"),
        DemoVisit::denied("nobody-we-know", "ui-servers", "unknown_client"),
        DemoVisit::of_stranger("standard-client", "ui-servers"),
        DemoVisit::without_certificate("ui-servers"),
    ];
    let mut rows = Vec::new();
    for visit in visits {
        rows.push(stage.run(&visit).await?);
    }
    let steered = DemoVisit::served("standard-client", "ui-servers");
    rows.extend(stage.run_steered(&steered).await?);
    let over = stage.run_over_the_limit("free-trial-client", "ui-servers");
    rows.push(over.await?);
    Ok(rows)
}

fn say(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}
