//! `portcullis demo`: certificates, upstreams, a gateway and its clients, all in one process.

mod stage;
mod upstream;
mod visit;

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::load::LoadError;
use crate::run::StartError;
use stage::Stage;
use visit::{Answer, Visit};

/// How long the demo waits for its own upstreams, clients and records.
const PATIENCE: Duration = Duration::from_secs(10);
/// Enough to show that a client's limits hold across workers.
const WORKERS: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");

/// What `portcullis demo` takes.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Where certificates are issued if they are missing. Another folder than the policy's own
    /// gets a copy of the policy too, for `portcullis run --policy DIR/policy.yaml`.
    #[arg(long, env = "PORTCULLIS_DEMO_DIR", default_value = "certs")]
    dir: PathBuf,
    /// The policy [default: policy.yaml if there is one, else the one that is built in].
    #[arg(long, env = "PORTCULLIS_POLICY")]
    policy: Option<PathBuf>,
    /// Let the kernel choose every port instead of taking those of the policy.
    #[arg(long, env = "PORTCULLIS_DEMO_FREE_PORTS")]
    free_ports: bool,
    /// End after the table: exit code 0 only if every line is as expected.
    #[arg(long, env = "PORTCULLIS_DEMO_ONCE")]
    once: bool,
}

/// Why the demo could not be shown.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Certificates could not be issued.
    #[error("certificates could not be issued: {0}")]
    Certificates(#[from] certgen::CertgenError),
    /// The gateway did not start.
    #[error("{0}{hint}", hint = hint(.0))]
    Start(#[from] StartError),
    /// A file of the demo cannot be read or written.
    #[error("{path}: {source}; `--dir` names a folder that can be written to", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An upstream's port is taken.
    #[error("upstream {address}: {source}; stop what listens there, or try `--free-ports`")]
    Upstream {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The upstreams did not pass their health checks.
    #[error("no upstream of `{0}` became healthy")]
    Unhealthy(String),
    /// The policy is not one that the demo can be shown with.
    #[error("the demo needs {0} in the policy")]
    Policy(&'static str),
    /// TLS could not be set up on the client's side.
    #[error("a client could not be set up: {0}")]
    Client(#[from] rustls::Error),
    /// The system refused something.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<LoadError> for DemoError {
    fn from(error: LoadError) -> Self {
        Self::Start(error.into())
    }
}

/// The option that helps, if one does.
fn hint(error: &StartError) -> &'static str {
    if matches!(error, StartError::Load(LoadError::Listen { .. })) {
        "; `--free-ports` takes ports that are free"
    } else {
        ""
    }
}

/// Shows the demo; false if it did not go as expected.
pub fn demo(arguments: &DemoArguments) -> Result<bool, DemoError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stage = Stage::set(arguments).await?;
        let table = perform(&mut stage).await?;
        say(&table.to_string())?;
        let expected = table.is_as_expected();
        if !arguments.once {
            say(&stage.invitation())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted?,
                _ = terminate.recv() => {}
            }
        }
        stage.strike().await;
        Ok(expected)
    })
}

/// Everything that is shown: who comes, what happens to it, what the gateway says.
async fn perform(stage: &mut Stage) -> Result<Table, DemoError> {
    let mut table = Table { rows: Vec::new() };
    let visits = [
        Visit::of("standard-client", "ui-servers", Answer::Served, "finished"),
        Visit::of(
            "standard-client",
            "backend-servers",
            Answer::Served,
            "finished",
        ),
        Visit::of(
            "special-premium-client",
            "special-premium-servers",
            Answer::Served,
            "finished",
        ),
        Visit::of(
            "free-trial-client",
            "backend-servers",
            Answer::Denied,
            "not_granted",
        ),
        Visit::of(
            "standard-client",
            "no-such-group",
            Answer::Denied,
            "unknown_sni",
        ),
        Visit::of(
            "nobody-we-know",
            "ui-servers",
            Answer::Denied,
            "unknown_client",
        ),
        Visit::of_stranger("special-premium-client", "ui-servers"),
        Visit::without_certificate("ui-servers"),
    ];
    for visit in visits {
        table.rows.push(stage.play(&visit).await?);
    }
    let steered = Visit::of("standard-client", "ui-servers", Answer::Served, "finished");
    table.rows.extend(stage.play_steered(&steered).await?);
    table.rows.push(
        stage
            .play_over_the_limit("free-trial-client", "ui-servers")
            .await?,
    );
    Ok(table)
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    client: String,
    sni: String,
    saw: String,
    reason: String,
    expected: bool,
}

#[derive(Debug)]
struct Table {
    rows: Vec<Row>,
}

impl Table {
    fn is_as_expected(&self) -> bool {
        self.rows.iter().all(|row| row.expected)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["CLIENT", "WANTS", "THE CLIENT SAW", "THE GATEWAY SAYS", ""]];
        for row in &self.rows {
            let mark = if row.expected {
                "as expected"
            } else {
                "NOT AS EXPECTED"
            };
            lines.push([&row.client, &row.sni, &row.saw, &row.reason, mark]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or(0));
        writeln!(f)?;
        for line in lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(widths) {
                write!(text, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn say(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}
