//! The command line: its subcommands and options, and the exit codes of the program.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ebpf::{Role, SteerError};
use lb::Drained;
use serde::Serialize;

use crate::check;
use crate::demo::{self, DemoArguments, DemoResult};
use crate::load::{LoadError, read_policy_only};
use crate::run::{self, RunEnd, RunSettings, StartKind};
use gateway::access_record;
use host::log_writer::{LogOutput, Sink};
use host::program;
use policy;

mod admin_socket;
mod environment;
mod expiring;
mod grant;
mod help;
mod json_events;
mod log_filter;
mod logging;
mod output;
mod read;
mod steering;
mod upgrade;

use logging::LogArguments;
use output::{AnswerFormat, DIFFERS, FAILED, fail, say};
use steering::{BansReport, BindingsReport};

/// Exit code: the gateway was ended, and connections were cut off.
const CUT_OFF: u8 = 4;

/// A gateway for TCP services: clients authenticate by certificate, SNI names the service, a policy
/// decides.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_help = help::EXIT_CODES)]
pub struct CommandLine {
    #[command(subcommand)]
    action: PortcullisCommand,
}

#[derive(Debug, Subcommand)]
enum PortcullisCommand {
    /// Run the gateway until SIGTERM or SIGINT.
    ///
    /// The policy is reloaded when its file, or a file that it names, changes.
    #[command(after_help = help::SIGNALS)]
    Run {
        #[command(flatten)]
        arguments: RunArguments,
        #[command(flatten)]
        logging: LogArguments,
    },
    /// Show the gateway at work, without any preparation.
    ///
    /// Issues certificates, starts three upstreams and a gateway on loopback, connects as several
    /// clients and shows the result of each, then serves until Ctrl-C.
    Demo {
        #[command(flatten)]
        arguments: DemoArguments,
        #[command(flatten)]
        logging: LogArguments,
    },
    /// Check a policy and every file that it names.
    Check {
        /// File of the policy; `-` is standard input.
        #[arg(default_value = "policy.yaml")]
        file: PathBuf,
        /// Also check the directory of this file, as for `run --access-log`.
        #[arg(long)]
        access_log: Option<PathBuf>,
        #[command(flatten)]
        format: AnswerFormat,
    },
    /// List the certificates and revocation lists of a policy that end soon or have ended.
    ///
    /// The gateway's own certificate with its chain, the client authorities, and the revocation
    /// lists in effect. The soonest comes first.
    Expiring(expiring::ExpiringArguments),
    /// Explain whether a client may reach a name, by which line of the policy, and within which
    /// limits.
    Explain {
        /// Name of the client: the common name (CN) of its certificate.
        client: String,
        /// Name that the client asks for (SNI); `-` for none.
        sni: String,
        /// Port that the client connects to; it decides for a client without SNI.
        #[arg(long)]
        port: Option<u16>,
        /// File of the policy.
        #[arg(long, default_value = "policy.yaml")]
        policy: PathBuf,
        #[command(flatten)]
        format: AnswerFormat,
    },
    /// Show what changes from one policy to another, and who gains or loses access.
    Diff {
        /// File of the policy in force.
        old: PathBuf,
        /// File of the policy that replaces it.
        new: PathBuf,
        #[command(flatten)]
        format: AnswerFormat,
    },
    /// Grant groups to clients in the policy's file, and show who gains access.
    ///
    /// The rest of the file stays as it is, with comments and layout. A client that the policy does
    /// not have is added with the default limits. Nothing is written if the policy is not valid, or
    /// fails its own tests with the grant. A running gateway notices the change by itself.
    Grant(grant::GrantArguments),
    /// Replace the running gateway by a new process of the same or another program, without losing
    /// a connection.
    ///
    /// The new process receives the listeners, the results of probes and the counts of connections.
    /// When it has loaded the policy and serves, the old process stops accepting, and keeps its
    /// connections until they end. If the new process does not become ready, nothing changes. Needs
    /// `gateway.admin.socket` in the policy; without it, send SIGUSR2 to the gateway.
    Upgrade(upgrade::UpgradeArguments),
    #[command(flatten)]
    Read(read::ReadCommand),
    /// Load, inspect or unload the programs in the kernel that steer ports to a gateway.
    Steer {
        #[command(flatten)]
        instance: steering::InstanceArguments,
        #[command(subcommand)]
        action: steering::SteerCommand,
    },
    /// List the steered ports, and the number of connections to each: `steered` to a gateway, or
    /// `unserved` because there was none.
    Bindings {
        #[command(flatten)]
        instance: steering::InstanceArguments,
        #[command(flatten)]
        format: AnswerFormat,
    },
    /// List the banned sources.
    Bans {
        #[command(flatten)]
        instance: steering::InstanceArguments,
        #[command(flatten)]
        format: AnswerFormat,
    },
    /// Lift the ban of a source.
    Unban {
        /// An address of the source.
        source: IpAddr,
        #[command(flatten)]
        instance: steering::InstanceArguments,
    },
    /// Print the JSON schema of the policy, for editors.
    Schema,
    /// Start a program for the process at standard input.
    #[command(hide = true)]
    Launch,
    /// Print a large policy, for measuring.
    #[command(hide = true)]
    Generate {
        /// Number of groups.
        groups: usize,
        /// Number of clients.
        clients: usize,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// File of the policy.
    #[arg(long, env = "PORTCULLIS_POLICY", default_value = "policy.yaml")]
    policy: PathBuf,
    /// Number of workers, each with a thread and a listener of its own [default: that of the
    /// policy, else one for each processor, at most 64 with steering].
    #[arg(long, env = "PORTCULLIS_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// File that access records are appended to, one JSON object on each line; `-` is standard
    /// output.
    #[arg(long, env = "PORTCULLIS_ACCESS_LOG", default_value = "-")]
    access_log: PathBuf,
    /// Stand by for the gateway of the same instance, and serve the steered ports while there is
    /// none. Needs `portcullis steer load`. The policy's `listen` addresses are not opened.
    #[arg(long, env = "PORTCULLIS_STANDBY")]
    standby: bool,
    #[command(flatten)]
    instance: steering::InstanceArguments,
    /// Inherit from the process that started this one.
    #[arg(long, hide = true)]
    inherit: bool,
}

impl CommandLine {
    /// Parses the command line and the environment. Help and wrong usage end the process here.
    pub fn from_environment() -> Self {
        let matches = environment::with_variables(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Executes the command and returns the exit code.
    pub fn execute(self) -> ExitCode {
        match self.action {
            PortcullisCommand::Run { arguments, logging } => {
                logging.logged("info", || serve(arguments))
            }
            // Log events would interrupt the table that the demo prints.
            PortcullisCommand::Demo { arguments, logging } => {
                logging.logged("off", || show(&arguments))
            }
            PortcullisCommand::Check {
                file,
                access_log,
                format,
            } => verdict(&check::check(&file, access_log.as_deref()), format),
            PortcullisCommand::Expiring(arguments) => expiring::expiring(&arguments),
            PortcullisCommand::Explain {
                client,
                sni,
                port,
                policy,
                format,
            } => answered(read_policy_only(&policy).map(|policy| {
                let sni = (sni != "-").then_some(sni.as_str());
                let explanation = policy::explain(&policy, &client, sni, port);
                format.print(&explanation);
                if explanation.allowed() { 0 } else { DIFFERS }
            })),
            PortcullisCommand::Diff { old, new, format } => {
                answered(read_policy_only(&old).and_then(|old| {
                    let difference = policy::difference(&old, &read_policy_only(&new)?);
                    format.print(&difference);
                    Ok(if difference.is_empty() { 0 } else { DIFFERS })
                }))
            }
            PortcullisCommand::Grant(arguments) => grant::grant(&arguments),
            PortcullisCommand::Upgrade(arguments) => upgrade::upgrade(&arguments),
            PortcullisCommand::Read(command) => read::read(&command),
            PortcullisCommand::Steer { instance, action } => {
                steering::steer(&instance.pin_dir(), &action)
            }
            PortcullisCommand::Bindings { instance, format } => {
                shown(BindingsReport::of(&instance.pin_dir()), format)
            }
            PortcullisCommand::Bans { instance, format } => {
                shown(BansReport::of(&instance.pin_dir()), format)
            }
            PortcullisCommand::Unban { source, instance } => {
                steering::unban(&instance.pin_dir(), source)
            }
            PortcullisCommand::Schema => say(&policy::schema()),
            PortcullisCommand::Launch => launch(),
            PortcullisCommand::Generate { groups, clients } => {
                say(&policy::generate(groups, clients))
            }
        }
    }
}

fn answered(answer: Result<u8, LoadError>) -> ExitCode {
    match answer {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn verdict(report: &check::CheckReport, format: AnswerFormat) -> ExitCode {
    format.print(report);
    if report.is_valid() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn serve(arguments: RunArguments) -> ExitCode {
    let output = match arguments.access_log.as_os_str().as_encoded_bytes() {
        b"-" => LogOutput::Stdout,
        _ => LogOutput::File(arguments.access_log.clone()),
    };
    let records = match Sink::open(output, access_record::lost_line) {
        Ok(records) => records,
        Err(error) => {
            return fail(&format!(
                "cannot open {}: {error}",
                arguments.access_log.display()
            ));
        }
    };
    let role = if arguments.standby {
        Role::Standby
    } else {
        Role::Primary
    };
    let access_log = arguments.access_log;
    let settings = RunSettings {
        policy: arguments.policy,
        workers: arguments.workers,
        records,
        access_log: (access_log.as_os_str() != "-").then_some(access_log),
        instance: Some((arguments.instance.pin_dir(), role)),
        program: program::started_from(),
    };
    let kind = if arguments.inherit {
        StartKind::Upgrade
    } else {
        StartKind::Fresh
    };
    match run::run(settings, kind) {
        Ok(RunEnd::Dismissed) => ExitCode::SUCCESS,
        Ok(RunEnd::Drained(drained)) => ended(drained),
        Ok(RunEnd::Followed(drained, status)) => match ended_as(status) {
            0 => ended(drained),
            code => ExitCode::from(code),
        },
        Err(error) => {
            // In the log's own format, for readers of the log only.
            tracing::error!(%error, "the gateway did not start");
            if tracing::enabled!(tracing::Level::ERROR) {
                ExitCode::from(FAILED)
            } else {
                fail(&error)
            }
        }
    }
}

fn ended(drained: Drained) -> ExitCode {
    match drained {
        Drained::Clean => {
            tracing::info!("every connection ended by itself");
            ExitCode::SUCCESS
        }
        Drained::CutOff { connections } => {
            tracing::warn!(connections, "connections were cut off");
            ExitCode::from(CUT_OFF)
        }
    }
}

/// Returns the exit code for the status of another process: its own code, or 128 plus the number of
/// the signal that ended it, as in a shell.
fn ended_as(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(signal);
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(FAILED)
}

fn shown<T: fmt::Display + Serialize>(
    found: Result<T, SteerError>,
    format: AnswerFormat,
) -> ExitCode {
    match found {
        Ok(found) => {
            format.print(&found);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn launch() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    // The process that started this one notices any failure itself.
    match runtime.and_then(|runtime| runtime.block_on(crate::upgrade::launch())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn show(arguments: &DemoArguments) -> ExitCode {
    match demo::demo(arguments) {
        Ok(DemoResult::AsExpected) => ExitCode::SUCCESS,
        Ok(DemoResult::NotAsExpected) => fail(&"the demo did not go as expected"),
        Err(error) => fail(&error),
    }
}
