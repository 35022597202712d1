//! The commands for the steering programs: `portcullis steer`, `bindings`, `bans` and `unban`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ebpf::{AttachmentState, BanTable, Counters, PinDir, PinOwner, Role, RoleHolder, Steering};
use nix::unistd::{Uid, User};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::{AnswerFormat, FAILED, fail, say};
use gateway::steering::other_programs_warning;
use host::table::{ColumnAlign, TextTable, terminal_width};

/// Which steering instance is meant.
#[derive(Debug, Args)]
pub(super) struct InstanceArguments {
    /// Name under which steering is pinned; each gateway of a machine needs its own.
    #[arg(long, default_value = "default", value_parser = instance, global = true)]
    instance: String,
    /// Directory where a bpffs is mounted.
    #[arg(long, default_value = "/sys/fs/bpf", global = true)]
    bpffs: PathBuf,
}

impl InstanceArguments {
    /// Returns the directory where the instance is pinned.
    pub(super) fn pin_dir(&self) -> PinDir {
        PinDir::new(&self.bpffs, &self.instance).expect("the name was looked at")
    }
}

fn instance(name: &str) -> Result<String, String> {
    let named = PinDir::new(&PathBuf::new(), name).map(|_| name.to_owned());
    named.ok_or_else(|| "expected letters, digits, `-` and `_`".to_owned())
}

/// What can be done with the steering programs.
#[derive(Debug, Subcommand)]
pub(super) enum SteerCommand {
    /// Load the programs into this network namespace, or replace those that are loaded.
    ///
    /// Needs `CAP_BPF` and `CAP_NET_ADMIN`. A gateway that runs as `--user` needs no privileges
    /// afterwards. Existing bindings and counters are kept.
    Load {
        /// User that the gateways run as, by name or number.
        #[arg(long, value_parser = owner)]
        user: Option<PinOwner>,
    },
    /// Show whether the programs are loaded, and which processes are the primary and the standby.
    Status {
        #[command(flatten)]
        format: AnswerFormat,
    },
    /// Remove the programs from the kernel; connections then go where they went without them.
    Unload,
}

fn owner(user: &str) -> Result<PinOwner, String> {
    let found = match user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    match found {
        Ok(Some(user)) => Ok(PinOwner {
            user: user.uid.as_raw(),
            group: user.gid.as_raw(),
        }),
        Ok(None) => Err("no such user".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Answer of `portcullis steer status`: whether the steering programs are loaded, and the gateways.
#[derive(Debug, Serialize)]
pub(super) struct SteeringStatus {
    pin_path: PathBuf,
    /// True if the programs are loaded and attached in this network namespace, or if only root
    /// could see whether they are attached.
    loaded: bool,
    attached: AttachedWhere,
    bindings: usize,
    /// Gateways of both roles; empty if nothing is loaded.
    gateways: Vec<GatewayStatus>,
}

/// The process that has a role.
#[derive(Debug, Serialize)]
struct GatewayStatus {
    role: &'static str,
    state: GatewayState,
    /// Process ID as this process sees it, or as the gateway saw it if it cannot be seen from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum GatewayState {
    /// No gateway has the role.
    None,
    /// A running gateway has the role.
    Attached,
    /// The gateway has ended, or cannot be seen from here.
    Lost,
    /// The gateway left no process ID.
    Unknown,
}

impl GatewayStatus {
    fn of(pin_dir: &PinDir, role: Role) -> Result<Self, ebpf::SteerError> {
        let (state, pid, since) = match RoleHolder::of(pin_dir, role)? {
            RoleHolder::Nobody => (GatewayState::None, None, None),
            RoleHolder::Process { pid, since } => (GatewayState::Attached, Some(pid), Some(since)),
            RoleHolder::Lost { pid } => (GatewayState::Lost, Some(pid), None),
            RoleHolder::Unknown => (GatewayState::Unknown, None, None),
        };
        Ok(Self {
            role: match role {
                Role::Primary => "primary",
                Role::Standby => "standby",
            },
            state,
            pid,
            since: since.and_then(|since| OffsetDateTime::from(since).format(&Rfc3339).ok()),
        })
    }
}

impl fmt::Display for GatewayStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role;
        let pid = self.pid.unwrap_or(0);
        let since = self.since.as_deref().unwrap_or("an unknown time");
        match self.state {
            GatewayState::None => writeln!(f, "{role}: none"),
            GatewayState::Attached => writeln!(f, "{role}: process {pid}, since {since}"),
            GatewayState::Lost => writeln!(
                f,
                "{role}: process {pid} has ended, or cannot be seen from here"
            ),
            GatewayState::Unknown => writeln!(
                f,
                "{role}: a process that left no pid (an earlier version, or loaded by one)"
            ),
        }
    }
}

/// Network namespace that the programs are attached to, relative to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AttachedWhere {
    Here,
    Elsewhere,
    Nowhere,
    Hidden,
}

impl SteeringStatus {
    /// Reads the state of the steering programs from the kernel.
    pub(super) fn of(pin_dir: &PinDir) -> Result<Self, ebpf::SteerError> {
        let bindings = match Steering::bindings(pin_dir) {
            Ok(bindings) => Some(bindings.len()),
            Err(ebpf::SteerError::NotLoaded(_)) => None,
            Err(error) => return Err(error),
        };
        let attached = match AttachmentState::of(pin_dir)? {
            AttachmentState::Here => AttachedWhere::Here,
            AttachmentState::Elsewhere => AttachedWhere::Elsewhere,
            AttachmentState::Nowhere => AttachedWhere::Nowhere,
            AttachmentState::Hidden => AttachedWhere::Hidden,
        };
        let all = [Role::Primary, Role::Standby].into_iter();
        let gateways = all
            .filter(|_| bindings.is_some())
            .map(|role| GatewayStatus::of(pin_dir, role))
            .collect::<Result<_, _>>()?;
        let is_attached = matches!(attached, AttachedWhere::Here | AttachedWhere::Hidden);
        Ok(Self {
            pin_path: pin_dir.path().to_owned(),
            loaded: bindings.is_some() && is_attached,
            attached,
            bindings: bindings.unwrap_or(0),
            gateways,
        })
    }

    /// Returns true if the programs are loaded and steer in this network namespace, as far as can
    /// be seen.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }
}

impl fmt::Display for SteeringStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin_dir = self.pin_path.display();
        let bindings = match self.bindings {
            1 => "1 binding".to_owned(),
            bindings => format!("{bindings} bindings"),
        };
        match self.attached {
            AttachedWhere::Here if self.loaded => writeln!(f, "{pin_dir}: loaded, with {bindings}"),
            AttachedWhere::Hidden if self.loaded => writeln!(
                f,
                "{pin_dir}: loaded, with {bindings}; only root can see whether it is attached"
            ),
            AttachedWhere::Elsewhere => {
                writeln!(f, "{pin_dir}: loaded in another network namespace")
            }
            AttachedWhere::Nowhere if self.bindings > 0 => writeln!(
                f,
                "{pin_dir}: not attached, {bindings} have no effect; run `portcullis steer load`"
            ),
            AttachedWhere::Here | AttachedWhere::Nowhere | AttachedWhere::Hidden => {
                writeln!(f, "{pin_dir}: nothing is loaded")
            }
        }?;
        self.gateways.iter().try_for_each(|gateway| gateway.fmt(f))
    }
}

/// Answer of `portcullis bindings`: the bindings and the counters of connections.
#[derive(Debug, Serialize)]
pub(super) struct BindingsReport(Vec<BindingCounts>);

#[derive(Debug, Serialize)]
struct BindingCounts {
    binding: String,
    /// Connections to the port of the binding, at all addresses.
    steered: u64,
    unserved: u64,
    banned: u64,
}

impl BindingsReport {
    /// Reads the bindings and counters from the kernel.
    pub(super) fn of(pin_dir: &PinDir) -> Result<Self, ebpf::SteerError> {
        let bindings = Steering::bindings(pin_dir)?;
        let counters: BTreeMap<u16, Counters> = Steering::counters(pin_dir)?.into_iter().collect();
        let bindings = bindings.into_iter().map(|rule| {
            let counted = counters.get(&rule.port()).copied().unwrap_or_default();
            BindingCounts {
                binding: rule.to_string(),
                steered: counted.steered,
                unserved: counted.unserved,
                banned: counted.banned,
            }
        });
        Ok(Self(bindings.collect()))
    }
}

impl fmt::Display for BindingsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = TextTable::new([
            ("DESTINATION", ColumnAlign::Left),
            ("STEERED", ColumnAlign::Right),
            ("UNSERVED", ColumnAlign::Right),
            ("BANNED", ColumnAlign::Right),
        ]);
        for binding in &self.0 {
            let counted = [binding.steered, binding.unserved, binding.banned];
            let [steered, unserved, banned] = counted.map(|count| count.to_string());
            table.push([binding.binding.clone(), steered, unserved, banned]);
        }
        f.write_str(&table.to_text(terminal_width()))
    }
}

/// Answer of `portcullis bans`: the banned sources, with the seconds that are left of each ban.
#[derive(Debug, Serialize)]
pub(super) struct BansReport(Vec<BannedSource>);

#[derive(Debug, Serialize)]
struct BannedSource {
    source: IpAddr,
    seconds: f64,
}

impl BansReport {
    /// Reads the bans from the kernel.
    pub(super) fn of(pin_dir: &PinDir) -> Result<Self, ebpf::SteerError> {
        let all = BanTable::open(pin_dir)?.all()?.into_iter();
        let sources = all.map(|(source, left)| BannedSource {
            source,
            seconds: left.as_secs_f64(),
        });
        Ok(Self(sources.collect()))
    }
}

impl fmt::Display for BansReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for BannedSource { source, seconds } in &self.0 {
            let bits = if source.is_ipv6() { "/64" } else { "" };
            writeln!(f, "{source}{bits} for {seconds:.0} s more")?;
        }
        Ok(())
    }
}

/// Lifts the ban of a source. Fails if it is not banned.
pub(super) fn unban(pin_dir: &PinDir, source: IpAddr) -> ExitCode {
    match BanTable::open(pin_dir).and_then(|bans| bans.lift(source)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail(&format!("{source} is not banned")),
        Err(error) => fail(&error),
    }
}

/// Executes a subcommand of `portcullis steer`. For `status` the exit code is 1 if the programs are
/// not loaded.
pub(super) fn steer(pin_dir: &PinDir, action: &SteerCommand) -> ExitCode {
    let done = match *action {
        SteerCommand::Load { user } => ebpf::load(pin_dir, user).map(|foreign| {
            let path = pin_dir.path().display();
            let mut text = format!("{path}: loaded\n");
            if let Some(warning) = other_programs_warning(&foreign) {
                text = format!("{text}{warning}\n");
            }
            say(&text)
        }),
        SteerCommand::Status { format } => SteeringStatus::of(pin_dir).map(|status| {
            format.print(&status);
            if status.is_loaded() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            }
        }),
        SteerCommand::Unload => ebpf::unload(pin_dir).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| fail(&error))
}
