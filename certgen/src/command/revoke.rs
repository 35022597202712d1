//! Commands that sign the revocation list: `revoke` and `crl`.

use std::io::Write;
use std::path::Path;

use certgen::{AuthorityDirectory, CertificateSerial, MatchCount, RevocationTarget, crl_path};
use clap::Args;
use time::Duration;

use crate::command::error::CommandError;
use crate::command::span::span;

#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    /// Certificates, each by its file, its serial (hexadecimal, with or without colons), or the
    /// name of its client or server; without any, the list is signed again with new dates.
    #[arg(value_name = "FILE|SERIAL|NAME")]
    targets: Vec<String>,
    /// Serial of any length, which the index need not have; may be given several times.
    #[arg(long = "serial", value_name = "HEX")]
    serials: Vec<String>,
    /// Revoke all certificates in force that have the name.
    #[arg(long)]
    all: bool,
    /// Validity of the list, such as 30d [default: that of the list before, or 30d].
    #[arg(long, value_name = "SPAN", value_parser = span)]
    next_update: Option<Duration>,
}

impl RevokeArguments {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), CommandError> {
        let directory = AuthorityDirectory::lock(dir)?;
        let authority = directory.authority()?;
        let reach = if self.all {
            MatchCount::All
        } else {
            MatchCount::One
        };
        // All targets are found first, so that a bad one leaves the list unchanged.
        let mut targets = directory.targets(&authority, &self.targets, reach)?;
        for text in &self.serials {
            let serial =
                CertificateSerial::parse(text).ok_or_else(|| CommandError::Serial(text.clone()))?;
            targets.push(RevocationTarget::of_serial(serial));
        }
        let serials: Vec<CertificateSerial> = targets
            .iter()
            .map(|target| target.serial().clone())
            .collect();
        let list = directory.revoke(&authority, &serials, self.next_update)?;
        for target in &targets {
            writeln!(out, "revoked {}, serial {}", target.name(), target.serial())?;
        }
        let (path, number, count) = (crl_path(dir), list.number(), list.entries().len());
        writeln!(
            out,
            "wrote {}, number {number}, {count} revoked",
            path.display()
        )?;
        Ok(())
    }
}

/// Signs the list with fresh dates and no new entries.
pub(crate) fn sign_list(
    dir: &Path,
    next_update: Option<Duration>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let revoke = RevokeArguments {
        targets: Vec::new(),
        serials: Vec::new(),
        all: false,
        next_update,
    };
    revoke.run(dir, out)
}
