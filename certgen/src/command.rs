//! Commands of `certgen`: the arguments, their dispatch and the exit codes.

mod error;
mod issue;
mod revoke;
mod span;
mod usage;

use std::io::Write;
use std::path::{Path, PathBuf};

use certgen::{AuthorityDirectory, CertificateIndex, PemFacts, crl_path};
use clap::{Parser, Subcommand};
use time::Duration;

use crate::command::error::CommandError;
use crate::command::issue::{NewAuthority, NewClients, NewServer};
use crate::command::revoke::RevokeArguments;
use crate::command::span::span;

/// Issue, renew and revoke the certificates of a private authority.
#[derive(Debug, Parser)]
#[command(name = "certgen", version)]
pub(crate) struct CertgenArguments {
    /// Directory of the authority and of all files that it issues.
    #[arg(long, global = true, env = "CERTGEN_DIR", default_value = "certs")]
    dir: PathBuf,

    #[command(subcommand)]
    task: CertgenCommand,
}

#[derive(Debug, Subcommand)]
enum CertgenCommand {
    /// Create the authority: ca.crt and ca.key.
    Ca(NewAuthority),
    /// Issue a certificate and a key for a server: server.crt and server.key.
    Server(NewServer),
    /// Issue a certificate and a key for each client, in files named after the client.
    Client(NewClients),
    /// List the certificates that the authority issued, with serial, dates and state.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the contents of a certificate or a revocation list.
    Inspect {
        /// File of a certificate or a revocation list, in PEM.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a certificate against the authority and its revocation list.
    Verify {
        /// File of a certificate, in PEM.
        file: PathBuf,
    },
    /// Replace a certificate and its key, or sign the revocation list again.
    ///
    /// The new certificate has the same names, a new key and a new validity.
    Renew {
        /// File of a certificate that the authority issued, or its ca.crl.
        file: PathBuf,
        /// Validity in days [default: that of the old certificate].
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        days: Option<u16>,
    },
    /// Add certificates to the revocation list ca.crl, or sign the list again.
    ///
    /// If a certificate replaced older ones, these are revoked too. Revoking an old certificate
    /// does not revoke the one that replaced it.
    Revoke(RevokeArguments),
    /// Sign the revocation list ca.crl again, before it expires.
    Crl {
        /// Validity of the list, such as 30d [default: that of the list before, or 30d].
        #[arg(long, value_name = "SPAN", value_parser = span)]
        next_update: Option<Duration>,
    },
    /// Exit with 0 if a certificate or list should be renewed, 1 if not, 3 if the file does not
    /// exist, 4 after another failure.
    NeedsRenewal {
        /// File of a certificate or a revocation list, in PEM.
        file: PathBuf,
        /// Time that must be left, such as 30d, 12h, 90m or 45s [default: 30d for a certificate, a
        /// third of its validity for a list].
        #[arg(long, value_name = "SPAN", value_parser = span)]
        within: Option<Duration>,
    },
}

/// Exit code of `needs-renewal`: renew.
const RENEW: u8 = 0;
/// Exit code of `needs-renewal`: nothing to do; of any other command: failure.
const FINE: u8 = 1;
/// Exit code of `needs-renewal`: no such file.
const ABSENT: u8 = 3;
/// Exit code of `needs-renewal`: any other failure.
const UNKNOWN: u8 = 4;

/// Runs the command, prints its result and returns the exit code.
pub(crate) fn run(arguments: &CertgenArguments, out: &mut dyn Write) -> Result<u8, CommandError> {
    let dir = arguments.dir.as_path();
    match &arguments.task {
        CertgenCommand::Ca(new) => new.run(dir, out)?,
        CertgenCommand::Server(new) => new.run(dir, out)?,
        CertgenCommand::Client(new) => new.run(dir, out)?,
        CertgenCommand::List { json } => list(dir, *json, out)?,
        CertgenCommand::Inspect { file, json } => inspect(file, *json, out)?,
        CertgenCommand::Verify { file } => return verify(dir, file, out),
        CertgenCommand::Renew { file, days } => renew(dir, file, *days, out)?,
        CertgenCommand::Revoke(revoke) => revoke.run(dir, out)?,
        CertgenCommand::Crl { next_update } => revoke::sign_list(dir, *next_update, out)?,
        CertgenCommand::NeedsRenewal { file, within } => {
            return Ok(if PemFacts::load(file)?.ends_within(*within) {
                RENEW
            } else {
                FINE
            });
        }
    }
    Ok(0)
}

/// Exit code of a command that failed.
pub(crate) fn failure_code(arguments: &CertgenArguments, failure: &CommandError) -> u8 {
    let absent = matches!(failure, CommandError::Certgen(error) if error.is_not_found());
    match (&arguments.task, absent) {
        (CertgenCommand::NeedsRenewal { .. }, true) => ABSENT,
        (CertgenCommand::NeedsRenewal { .. }, false) => UNKNOWN,
        _ => FINE,
    }
}

fn list(dir: &Path, json: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let index = CertificateIndex::load(dir)?;
    if json {
        writeln!(out, "{:#}", index.json())?;
    } else {
        write!(out, "{index}")?;
    }
    Ok(())
}

fn inspect(file: &Path, json: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let document = PemFacts::load(file)?;
    if json {
        writeln!(out, "{:#}", document.json())?;
    } else {
        write!(out, "{document}")?;
    }
    Ok(())
}

fn verify(dir: &Path, file: &Path, out: &mut dyn Write) -> Result<u8, CommandError> {
    let checks = certgen::verify(dir, file)?;
    for check in &checks {
        writeln!(out, "{check}")?;
    }
    Ok(u8::from(
        checks.iter().any(certgen::CertificateCheck::failed),
    ))
}

fn renew(
    dir: &Path,
    file: &Path,
    days: Option<u16>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let length = days.map(|days| Duration::days(days.into()));
    if matches!(PemFacts::load(file), Ok(PemFacts::List(_))) {
        let same = |path: &Path| std::fs::canonicalize(path).ok();
        if same(file) != same(&crl_path(dir)) {
            return Err(CommandError::OtherList {
                file: file.to_owned(),
                dir: dir.to_owned(),
            });
        }
        return revoke::sign_list(dir, length, out);
    }
    let directory = AuthorityDirectory::lock(dir)?;
    let renewed = directory.renew(&directory.authority()?, file, length)?;
    writeln!(
        out,
        "renewed {}, serial {}",
        file.display(),
        renewed.serial()
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <CertgenArguments as clap::CommandFactory>::command().debug_assert();
    }
}
