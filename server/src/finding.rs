//! Findings: what an operator should know about a policy that can be served, its files and the
//! machine. `check` prints them, and start and reload log them.

use std::fmt;
use std::path::{Path, PathBuf};

use host::directory;
use policy::{GroupPolicy, Policy, PolicyKey, Problem, Quota};
use rustls_pki_types::UnixTime;
use tls::TlsSettings;
use tls::dated_item::DatedItem;
use tls::expiry::ExpiryStage;
use tls::files::SettingsFinding;

use crate::load::base;
use gateway::limits::possible_connections;
use gateway::tls_files::policy_file;

/// Largest number of groups that are named because of names that the certificate does not have;
/// further ones are counted.
const MOST_GROUPS: usize = 20;
/// Largest number of names that are shown for one group.
const MOST_NAMES: usize = 5;

/// One finding, with its position in the policy's file if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    position: Option<(u32, u32)>,
    /// Key of the policy, path or option that it is about; `None` if the description names it.
    subject: Option<String>,
    what: String,
}

/// Circumstances of the findings beside the policy and its files.
#[derive(Debug)]
pub(crate) struct FindingScope<'a> {
    /// Path of the policy's file.
    pub(crate) policy: &'a Path,
    /// Path of the access log, if it is a file.
    pub(crate) access_log: Option<&'a Path>,
    /// Limit of the process's file descriptors; `None` if there is none, or it does not matter.
    pub(crate) descriptors: Option<u64>,
}

/// Returns the findings now, except that certificates and lists end ([`of_dated`]), in the order of
/// the policy's file.
pub(crate) fn standing(
    policy: &Policy,
    tls: &TlsSettings,
    scope: &FindingScope<'_>,
    now: UnixTime,
) -> Vec<Finding> {
    let files = tls.warnings(now).into_iter();
    let mut findings: Vec<Finding> = files.map(|found| of_file(policy, found)).collect();
    findings.extend(policy.warnings().map(of_policy));
    findings.extend(uncovered_names(policy, tls));
    findings.extend(few_descriptors(policy, scope.descriptors));
    findings.extend(admin_directory(policy, scope.policy));
    findings.extend(scope.access_log.and_then(log_directory));
    findings.sort_by_key(|finding| finding.position);
    findings
}

/// Returns the findings that certificates and lists end, for those of which a third of the lifetime
/// is left, or less.
pub(crate) fn ending(policy: &Policy, tls: &TlsSettings, now: UnixTime) -> Vec<Finding> {
    let dated = tls.dated().into_iter();
    let ending = dated.filter(|item| item.lifetime.stage(now.as_secs()).is_some());
    ending.map(|item| of_dated(policy, &item, now)).collect()
}

/// Returns the finding that a certificate or list ends.
pub(crate) fn of_dated(policy: &Policy, item: &DatedItem, now: UnixTime) -> Finding {
    let file = policy_file(item.file);
    Finding {
        position: Some(policy.gateway().tls.positions.position(file)),
        subject: Some(file.key().to_owned()),
        what: item.describe(now),
    }
}

/// Returns true if the certificate or list has ended at this stage.
pub(crate) fn has_ended(stage: ExpiryStage) -> bool {
    matches!(stage, ExpiryStage::Ended(_))
}

impl Finding {
    /// Returns the line and the column in the policy's file, both counted from 1.
    pub(crate) fn position(&self) -> Option<(u32, u32)> {
        self.position
    }

    /// Returns the key of the policy, path or option that the finding is about; `None` if the
    /// description names it.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Returns the description, with the next step.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    fn of_key(policy: &Policy, key: PolicyKey, subject: &str, what: String) -> Self {
        Self {
            position: policy.position(key),
            subject: Some(subject.to_owned()),
            what,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(&self.what)
    }
}

fn of_file(policy: &Policy, found: SettingsFinding) -> Finding {
    let file = policy_file(found.file);
    Finding {
        position: Some(policy.gateway().tls.positions.position(file)),
        subject: Some(found.place.unwrap_or_else(|| file.key().to_owned())),
        what: found.what,
    }
}

fn of_policy(problem: &Problem) -> Finding {
    let Problem {
        line,
        column,
        message,
    } = problem;
    Finding {
        position: Some((*line, *column)),
        subject: None,
        what: message.clone(),
    }
}

/// Returns the findings about groups with names for which the gateway's certificate is not valid.
fn uncovered_names(policy: &Policy, tls: &TlsSettings) -> Vec<Finding> {
    let is_covered = tls.certificate_names();
    let missing = |group: &GroupPolicy| -> Vec<String> {
        let names = group.sni.iter().map(ToString::to_string);
        names.filter(|name| !is_covered(name)).collect()
    };
    let groups = policy.groups().map(|group| (group, missing(group)));
    let mut groups: Vec<_> = groups.filter(|(_, names)| !names.is_empty()).collect();
    groups.sort_by_key(|(group, _)| group.line.position());
    let named = groups.iter().take(MOST_GROUPS);
    let mut findings: Vec<Finding> = named
        .map(|(group, names)| Finding {
            position: Some(group.line.position()),
            subject: Some(format!("groups.{}", group.name)),
            what: uncovered(names),
        })
        .collect();
    if let Some((next, _)) = groups.get(MOST_GROUPS) {
        let more = groups.len() - MOST_GROUPS;
        findings.push(Finding {
            position: Some(next.line.position()),
            subject: None,
            what: format!("and {more} more groups have names that the gateway's certificate lacks"),
        });
    }
    findings
}

fn uncovered(names: &[String]) -> String {
    let shown = names[..names.len().min(MOST_NAMES)].join(", ");
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the gateway's certificate is not valid for {shown}{more}; clients that ask for these names \
         fail; issue it for them too, or remove them from `sni`"
    )
}

/// Returns the finding that the policy allows more connections than `descriptors` do.
fn few_descriptors(policy: &Policy, descriptors: Option<u64>) -> Option<Finding> {
    let descriptors = descriptors?;
    let possible = possible_connections(descriptors);
    let limit = match policy.gateway().limits.connections {
        Quota::Unlimited => None,
        Quota::AtMost(most) => Some(u64::from(most.get())),
    };
    if limit.is_some_and(|limit| limit <= possible) {
        return None;
    }
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let what = format!(
        "the open-file limit is too low for {limit} connections: {descriptors} file descriptors are \
         enough for {possible}; raise the hard limit (LimitNOFILE=), or lower the number of \
         connections"
    );
    let (key, subject) = (PolicyKey::Connections, "gateway.limits.connections");
    Some(Finding::of_key(policy, key, subject, what))
}

/// Returns the finding that the admin socket cannot be made.
fn admin_directory(policy: &Policy, file: &Path) -> Option<Finding> {
    let socket = policy.gateway().admin.as_ref()?;
    let directory = directory_of(&base(file).join(socket));
    let fault = directory::fault(&directory)?;
    let what = format!(
        "the directory {} {fault}, so the socket cannot be created; create it for the gateway's \
         user (systemd: RuntimeDirectory=)",
        directory.display()
    );
    let (key, subject) = (PolicyKey::AdminSocket, "gateway.admin.socket");
    Some(Finding::of_key(policy, key, subject, what))
}

/// Returns the finding that the file of the access log cannot be made, as after a rotation.
fn log_directory(log: &Path) -> Option<Finding> {
    // A device is opened as it is.
    let is_other = std::fs::metadata(log).is_ok_and(|found| !found.is_file());
    if is_other {
        return None;
    }
    let directory = directory_of(log);
    let fault = directory::fault(&directory)?;
    Some(Finding {
        position: None,
        subject: Some("--access-log".to_owned()),
        what: format!(
            "the directory {} {fault}, so the log cannot be created, or opened again after a \
             rotation; create it for the gateway's user (systemd: LogsDirectory=)",
            directory.display()
        ),
    })
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}
