//! An apt with a configuration of its own: another Debian release, other architectures, nothing installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{Lock, Locked, SUITE};
use crate::{cache, run};

/// An apt of its own: own sources, lists and cache, both architectures, nothing installed.
pub(super) struct PrivateApt {
    root: PathBuf,
}

impl PrivateApt {
    /// Prepares its folder.
    pub(super) fn new(root: &Path) -> Result<Self> {
        for folder in ["state/lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::write(root.join("status"), "")?;
        let mirror = machine_mirror()?;
        let options = match &mirror.signed_by {
            Some(key) => format!("[target=Packages signed-by={key}]"),
            None => "[target=Packages]".to_owned(),
        };
        let source = format!("deb {options} {} {SUITE} main contrib non-free non-free-firmware\n", mirror.uri);
        fs::write(root.join("sources.list"), source)?;
        let at = |path: &str| root.join(path).display().to_string();
        let config = format!(
            "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\nDir::State \"{}\";\n\
             Dir::State::status \"{}\";\nDir::Cache \"{}\";\nAPT::Architecture \"amd64\";\n\
             APT::Architectures {{ \"amd64\"; \"arm64\"; }};\nAcquire::Languages \"none\";\n\
             APT::Sandbox::User \"root\";\n",
            at("sources.list"),
            at("state"),
            at("status"),
            at("cache"),
        );
        fs::write(root.join("apt.conf"), config)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Runs an apt program under its configuration.
    pub(super) fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = run::command(program, args);
        command.env("APT_CONFIG", self.root.join("apt.conf")).current_dir(self.root.join("debs"));
        run::text(&mut command)
    }

    /// The first dependency of a kernel's meta package, with the architecture.
    pub(super) fn kernel_behind(&self, meta: &str) -> Result<String> {
        let shown = self.run("apt-cache", &["show", "--no-all-versions", meta])?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
        let depends = depends.with_context(|| format!("{meta} depends on nothing"))?;
        let kernel = depends.split([' ', ',']).next().unwrap_or_default();
        let (_, arch) = meta.split_once(':').context("package without an architecture")?;
        Ok(format!("{kernel}:{arch}"))
    }

    /// Downloads and unpacks; each package under its digest, which both apt and this check.
    pub(super) fn download(&self, names: &[String], into: &Path) -> Result<Lock> {
        let plain: Vec<&str> = names.iter().map(|name| name.trim_end_matches(":all")).collect();
        let mut args = vec!["--print-uris", "download"];
        args.extend(&plain);
        let listed = self.run("apt-get", &args)?;
        let mut args = vec!["-qq", "download"];
        args.extend(&plain);
        self.run("apt-get", &args)?;
        let mut lock = Lock { suite: SUITE.to_owned(), ..Lock::default() };
        for line in listed.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(file), _, Some(sum)) = (fields.next(), fields.next(), fields.next()) else {
                bail!("apt-get printed a line without a file: {line}");
            };
            let sha256 = sum.strip_prefix("SHA256:").with_context(|| format!("no SHA-256: {line}"))?;
            let package = file.split('_').next().unwrap_or_default();
            let arch = file.trim_end_matches(".deb").rsplit('_').next().unwrap_or_default();
            let deb = self.root.join("debs").join(file);
            let found = cache::sha256_file(&deb)?;
            ensure!(found == sha256, "{file} has digest {found}, the index says {sha256}");
            unpack(&deb, &into.join(sha256))?;
            let locked = Locked { file: file.to_owned(), sha256: sha256.to_owned() };
            lock.packages.insert(format!("{package}:{arch}"), locked);
            fs::remove_file(&deb)?;
        }
        for name in names {
            ensure!(lock.packages.contains_key(name), "apt-get did not give {name}");
        }
        Ok(lock)
    }
}

fn unpack(deb: &Path, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let temporary = folder.with_extension("part");
    if temporary.exists() {
        fs::remove_dir_all(&temporary)?;
    }
    run::output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&temporary))?;
    fs::rename(&temporary, folder)?;
    Ok(())
}

struct Mirror {
    uri: String,
    signed_by: Option<String>,
}

/// Where the machine itself gets Debian from: the first source that serves the machine's own release.
fn machine_mirror() -> Result<Mirror> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no code name")?
        .trim_matches('"')
        .to_owned();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let found = if file.extension().is_some_and(|e| e == "sources") {
            text.split("\n\n").find_map(|stanza| deb822_mirror(stanza, &codename))
        } else {
            text.lines().find_map(|line| one_line_mirror(line, &codename))
        };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    bail!("no apt source of this machine serves {codename}")
}

fn deb822_mirror(stanza: &str, codename: &str) -> Option<Mirror> {
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    field("Types")?.split_whitespace().find(|kind| *kind == "deb")?;
    field("Suites")?.split_whitespace().find(|suite| *suite == codename)?;
    let uri = field("URIs")?.split_whitespace().next()?.to_owned();
    Some(Mirror { uri, signed_by: field("Signed-By").filter(|k| k.starts_with('/')).map(str::to_owned) })
}

fn one_line_mirror(line: &str, codename: &str) -> Option<Mirror> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?.to_owned();
    words.next().filter(|suite| *suite == codename)?;
    let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by="));
    Some(Mirror { uri, signed_by: signed_by.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mirror_in_both_forms() {
        let stanza = "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
                      Components: main\nSigned-By: /k.gpg\n";
        let mirror = deb822_mirror(stanza, "bookworm").unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian");
        assert_eq!(mirror.signed_by.as_deref(), Some("/k.gpg"));
        assert!(deb822_mirror(stanza, "trixie").is_none());
        let line = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main";
        let mirror = one_line_mirror(line, "bookworm").unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian");
        assert_eq!(mirror.signed_by.as_deref(), Some("/k.gpg"));
        assert!(one_line_mirror("deb http://mirror.test/security bookworm-security main", "bookworm").is_none());
    }
}
