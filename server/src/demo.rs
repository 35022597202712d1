//! `portcullis demo`: certificates, upstreams, a gateway and its clients, all in one process.

mod client;
mod setup;
mod upstream;

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::gateway::GatewayStartError;
use crate::listeners::ListenError;
use crate::load::LoadError;
use crate::run::StartError;
use crate::table::{ColumnAlign, TextTable, terminal_width};
use client::DemoVisit;
use setup::DemoSetup;

/// Longest wait for the demo's own upstreams, clients and records: 10 seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Number of workers: enough to show that a client's limits hold across workers.
const WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");

/// Introduction that is printed first.
const OPENING: &str = "This demo issues certificates, starts a gateway and its upstreams on \
                       loopback,
connects as several clients, and shows the result of each.
";

/// What `portcullis demo` takes.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Where certificates are issued if they are missing. Another directory than the policy's own
    /// gets a copy of the policy too, for `portcullis run --policy DIR/policy.yaml`.
    #[arg(long, default_value = "certs")]
    dir: PathBuf,
    /// The policy [default: policy.yaml if there is one, else the one that is built in].
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Let the kernel choose every port instead of taking those of the policy.
    #[arg(long)]
    free_ports: bool,
    /// End after the table: exit code 0 only if every line is as expected.
    #[arg(long)]
    once: bool,
}

/// Errors that end the demo.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Certificates could not be issued.
    #[error("cannot issue certificates: {0}")]
    Certificates(#[from] certgen::CertgenError),
    /// The gateway did not start.
    #[error("{0}{hint}", hint = hint(.0))]
    Start(#[from] StartError),
    /// A file of the demo cannot be read or written.
    #[error(
        "cannot use {path}: {source}; name a writable directory with `--dir`",
        path = .path.display()
    )]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// An upstream's port is taken.
    #[error(
        "cannot start an upstream on {address}: {source}; stop the program that listens there, or \
         use `--free-ports`"
    )]
    Upstream {
        /// Address of the upstream.
        address: std::net::SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// No upstream of the group with this name passed its health check in time.
    #[error("no upstream of `{0}` became healthy")]
    Unhealthy(String),
    /// The policy lacks something that the demo needs.
    #[error("the demo needs {0} in the policy")]
    Policy(&'static str),
    /// TLS could not be set up on the client's side.
    #[error("cannot set up a client: {0}")]
    Client(#[from] rustls::Error),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<LoadError> for DemoError {
    fn from(error: LoadError) -> Self {
        Self::Start(error.into())
    }
}

/// Advice that is added to an error: an option that helps, or nothing.
fn hint(error: &StartError) -> &'static str {
    if let StartError::Gateway(GatewayStartError::Listen(ListenError::Bind { .. })) = error {
        "; `--free-ports` takes ports that are free"
    } else {
        ""
    }
}

/// Runs `portcullis demo`; returns false if a result was not as expected.
///
/// Unless [`DemoArguments`] has `--once`, it serves until an interrupt or a termination signal.
pub fn demo(arguments: &DemoArguments) -> Result<bool, DemoError> {
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
        Ok(rows.iter().all(ResultRow::is_as_expected))
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

/// Row of the table: one client's visit and its result.
#[derive(Debug)]
struct ResultRow {
    client: String,
    sni: String,
    /// The result, in a few words.
    result: String,
    /// The expected result and what is known of the actual one, if they differ.
    mistake: Option<String>,
}

impl ResultRow {
    fn is_as_expected(&self) -> bool {
        self.mistake.is_none()
    }
}

/// Formats the table of all rows, followed by those that are not as expected.
fn report(rows: &[ResultRow], width: Option<usize>) -> String {
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

fn say(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
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
