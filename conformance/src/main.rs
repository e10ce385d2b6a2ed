//! The harness: meets a running image-factory as the world does.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use conformance::registry::Registry;
use conformance::release::{self, Size};
use conformance::{bench, demo, kill, packages, tools};

/// Meets a running image-factory as the world does.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Installs the Debian packages that the harness needs and unpacks those of the release.
    Packages,
    /// Builds the Go clients, or only those named.
    Tools {
        /// cosign, crane, oras, regctl, conformance.
        names: Vec<String>,
    },
    /// Makes the miniature release.
    Release {
        /// Sizes as of the real release.
        #[arg(long)]
        full: bool,
        /// Copies layout, public key and release.json there.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Prepares all that tests need: packages, clients and the miniature release.
    Prepare,
    /// Shows the whole way from a schematic to a booted system, then leaves the server running.
    Demo,
    /// Kills the factory again and again, and looks for what is lost.
    Kill {
        /// How often.
        #[arg(default_value_t = 200)]
        rounds: u64,
    },
    /// Measures against peers on the full release, and prints the table.
    Bench {
        /// Rows by name; all when none is named.
        rows: Vec<String>,
    },
    /// Serves the miniature release from a real registry until stopped.
    Registry {
        /// Sizes as of the real release.
        #[arg(long)]
        full: bool,
        /// Loopback port; a free one when absent.
        #[arg(long)]
        port: Option<u16>,
    },
}

fn size(full: bool) -> Size {
    if full { Size::Full } else { Size::Mini }
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        What::Packages => {
            packages::install(packages::MACHINE)?;
            println!("unpacked, key {}", packages::unpacked()?.key());
        }
        What::Tools { names } => {
            for tool in tools::ALL.iter().filter(|t| names.is_empty() || names.iter().any(|n| n == t.name)) {
                println!("{}: {}", tool.name, tool.path()?.display());
            }
        }
        What::Release { full, out } => {
            let release = release::ensure(size(full))?;
            println!("layout: {}", release.layout().display());
            println!("public key: {}", release.public_key().display());
            if let Some(out) = out {
                release.copy_to(&out)?;
                println!("copied to {}", out.display());
            }
        }
        What::Prepare => {
            release::ensure(Size::Mini)?;
            for tool in tools::ALL {
                tool.path()?;
            }
        }
        What::Demo => demo::run()?,
        What::Kill { rounds } => kill::run(rounds)?,
        What::Bench { rows } => bench::run(&rows)?,
        What::Registry { full, port } => {
            let release = release::ensure(size(full))?;
            let registry = match port {
                Some(port) => Registry::read_only_on(&release, port)?,
                None => Registry::read_only(&release)?,
            };
            println!("registry: {}", registry.address());
            println!("public key: {}", release.public_key().display());
            registry.wait()?;
        }
    }
    Ok(())
}
