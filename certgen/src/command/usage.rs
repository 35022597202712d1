//! Instructions that are printed for a new client: commands to paste.

use std::io::{self, Write};
use std::path::Path;

use certgen::{CA_STEM, certificate_path, key_path};

/// Prints the command that grants the group to the clients, in the policy of the working directory.
pub(crate) fn grant(clients: &[&str], group: &str, out: &mut dyn Write) -> io::Result<()> {
    let Some((client, others)) = clients.split_first() else {
        return Ok(());
    };
    let others: Vec<String> = others
        .iter()
        .flat_map(|other| {
            let gap = if other.starts_with('-') { "=" } else { " " };
            [" --also", gap, &shell(other)].map(str::to_owned)
        })
        .collect();
    let others = others.concat();
    let is_like_an_option = |word: &str| word.starts_with('-');
    // A name that begins like an option goes behind all options.
    let (first, second) = (shell(client), shell(group));
    let words = if is_like_an_option(client) || is_like_an_option(group) {
        format!("{others} -- {first} {second}")
    } else {
        format!(" {first} {second}{others}")
    };
    writeln!(out, "\nTo grant access:\n\nportcullis grant{words}")
}

/// Prints commands that connect as the client; the server name (SNI) is the group's.
pub(crate) fn commands(
    dir: &Path,
    client: &str,
    group: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let path = |path: &Path| shell(&path.display().to_string());
    let authority = path(&certificate_path(dir, CA_STEM));
    let certificate = path(&certificate_path(dir, client));
    let key = path(&key_path(dir, client));
    // A colon would end the file's name and start a password.
    let bundle = certificate_path(dir, client)
        .display()
        .to_string()
        .replace(':', "\\:");
    let bundle = shell(&bundle);
    let name = shell(group);
    let (target, url) = (
        shell(&format!("{group}:8443:HOST:8443")),
        shell(&format!("https://{group}:8443/")),
    );
    writeln!(out, "\nTo connect:\n")?;
    writeln!(
        out,
        "openssl s_client -connect HOST:8443 -servername {name} -tls1_3 \
         -CAfile {authority} -cert {certificate} -key {key}"
    )?;
    writeln!(
        out,
        "curl --tlsv1.3 --connect-to {target} --cacert {authority} \
         --cert {bundle} --key {key} {url}"
    )
}

/// Prints the paths of a new certificate and key.
pub(crate) fn announce(dir: &Path, stem: &str, out: &mut dyn Write) -> io::Result<()> {
    let (certificate, key) = (certificate_path(dir, stem), key_path(dir, stem));
    writeln!(out, "wrote {} and {}", certificate.display(), key.display())
}

/// Quotes a word so that a shell passes it on unchanged.
pub(crate) fn shell(word: &str) -> String {
    let safe =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '+');
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_cannot_do_anything_in_a_shell() {
        assert_eq!(shell("certs/a-b.crt"), "certs/a-b.crt");
        assert_eq!(shell("a b"), "'a b'");
        assert_eq!(shell("$(x)'y"), r"'$(x)'\''y'");
    }

    #[test]
    fn a_grant_is_one_command_whatever_the_names_are() {
        let told = |clients: &[&str], group| {
            let mut out = Vec::new();
            grant(clients, group, &mut out).unwrap();
            let told = String::from_utf8(out).unwrap();
            told.lines().last().unwrap().to_owned()
        };
        assert_eq!(told(&["a"], "GROUP"), "portcullis grant a GROUP");
        let many = told(&["a", "-b", "c d"], "ui");
        assert_eq!(many, "portcullis grant a ui --also=-b --also 'c d'");
        let dashes = told(&["-a b", "c"], "ui");
        assert_eq!(dashes, "portcullis grant --also c -- '-a b' ui");
        assert_eq!(told(&["-a"], "ui"), "portcullis grant -- -a ui");
        assert_eq!(told(&["a"], "-u"), "portcullis grant -- a -u");
    }
}
