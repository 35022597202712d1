//! `portcullis grant`: lets clients reach groups, by a change of the policy's file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use host::replace::{ReadFile, ReplaceError};
use thiserror::Error;

use super::output::{fail, say};
use policy::{self, ClientName, ClientNameError, EditError, LARGEST_FILE};

#[derive(Debug, Args)]
pub(super) struct GrantArguments {
    /// Name of the client: the common name (CN) of its certificate.
    #[arg(value_parser = client_name)]
    client: ClientName,
    /// Groups that the client may reach, besides those that it may reach already.
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Another client that gets the same groups; may be given several times.
    #[arg(long, value_name = "CLIENT", value_parser = client_name)]
    also: Vec<ClientName>,
    /// File of the policy.
    #[arg(long, default_value = "policy.yaml")]
    policy: PathBuf,
}

#[derive(Debug, Error)]
enum GrantError {
    #[error("cannot read policy {path}: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(
        "{path} was not changed: another program changed it in the meantime; run the command again",
        path = .0.display()
    )]
    Changed(PathBuf),
    #[error("cannot replace policy {path}: {source}", path = .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Grants the groups and prints the difference; prints that there is none if the clients have the
/// groups already.
pub(super) fn grant(arguments: &GrantArguments) -> ExitCode {
    match changed(arguments) {
        Ok(told) => {
            // The policy is written, whether somebody reads the answer or not.
            let _: ExitCode = say(&told);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn changed(arguments: &GrantArguments) -> Result<String, GrantError> {
    let path = arguments.policy.as_path();
    let mut clients = vec![arguments.client.clone()];
    clients.extend_from_slice(&arguments.also);
    let groups: Vec<&str> = arguments.groups.iter().map(String::as_str).collect();

    let file = ReadFile::read(path, LARGEST_FILE as u64).map_err(|source| {
        let path = path.to_owned();
        GrantError::Unreadable { path, source }
    })?;
    let name = path.display().to_string();
    let edit = policy::grant(&name, file.text(), &clients, &groups)?;
    if edit.difference().is_empty() {
        return Ok(format!("{name}: no change, it has these grants already\n"));
    }
    file.replace(edit.text())
        .map_err(|error| unchanged(path, error))?;
    Ok(format!("{}wrote {name}\n", edit.difference()))
}

fn unchanged(path: &Path, error: ReplaceError) -> GrantError {
    let path = path.to_owned();
    match error {
        ReplaceError::Changed => GrantError::Changed(path),
        ReplaceError::Io(source) => GrantError::Unwritable { path, source },
    }
}

fn client_name(said: &str) -> Result<ClientName, ClientNameError> {
    ClientName::new(said)
}
