//! The commands of the binary.

mod asset;
mod fsck;
mod output;
mod overlay;
mod serve;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Source, Values};
use crate::sandbox;
use crate::types::Arch;

/// Boot assets and installer images of Talos Linux, made on request from signed sources.
#[derive(Parser)]
#[command(name = "image-factory", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve.
    Serve(Sources),
    /// Print the effective configuration, each value with its source.
    Config(Sources),
    /// Check the store: hash everything again, and drop what is bad.
    Fsck {
        #[command(flatten)]
        sources: Sources,
        /// Only report; drop nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget what a version's tags stand for, so that they are resolved anew.
    Refresh {
        #[command(flatten)]
        sources: Sources,
        /// The Talos version.
        version: String,
    },
    /// Make a boot asset without a server.
    Asset {
        #[command(flatten)]
        sources: Sources,
        /// File of the schematic (YAML or JSON); - for standard input.
        schematic: PathBuf,
        /// The Talos version.
        version: String,
        /// Which asset, such as metal-amd64.iso.
        path: String,
        /// Where it goes, - for standard output; its own name in the current folder when absent. A broken attempt is
        /// continued. A block device is overwritten after a question, unless it is in use.
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Overwrite a block device without a question.
        #[arg(long)]
        yes: bool,
        /// Print its SHA-256 as sha256sum does.
        #[arg(long)]
        sha256: bool,
        /// Explain it instead of writing it: offset, length and source of every run of bytes, and what it is.
        #[arg(long, conflicts_with_all = ["output", "sha256"])]
        plan: bool,
    },
    /// Explain a schematic's overlay: what it needs, and what it puts on a disk.
    Overlay {
        #[command(flatten)]
        sources: Sources,
        /// File of the schematic (YAML or JSON); - for standard input.
        schematic: PathBuf,
        /// The Talos version.
        version: String,
        /// The board's architecture.
        #[arg(long, default_value = "arm64", value_parser = arch)]
        arch: Arch,
    },
    /// Check signatures by hand.
    #[command(subcommand)]
    Verify(Verify),
    /// Internal: confine this process, and become an overlay's program.
    #[command(name = sandbox::COMMAND, hide = true)]
    Sandbox {
        /// The program's folder.
        folder: PathBuf,
        /// The program's argument.
        argument: OsString,
        /// Number of the process that started this one.
        parent: u32,
    },
}

#[derive(Subcommand)]
enum Verify {
    /// Check the signatures of a source image, such as siderolabs/imager:v1.13.2.
    Image {
        #[command(flatten)]
        sources: Sources,
        /// Repository with a tag or digest.
        reference: String,
    },
    /// Check a Sigstore bundle over a file.
    Bundle {
        #[command(flatten)]
        sources: Sources,
        /// The bundle (JSON).
        bundle: PathBuf,
        /// The file.
        file: PathBuf,
    },
}

/// Where the configuration comes from.
#[derive(Args)]
struct Sources {
    /// A YAML, JSON or dotenv file, file=FILE, or env=PREFIX; may repeat, later ones override.
    #[arg(long = "config", value_name = "SOURCE")]
    config: Vec<String>,
}

impl Sources {
    fn values(&self) -> anyhow::Result<Values> {
        let sources: Vec<Source> = self.config.iter().map(|text| Source::parse(text)).collect();
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Values::load(&sources, &environment)?)
    }

    fn load(&self) -> anyhow::Result<Config> {
        let values = self.values()?;
        let config = Config::from_values(&values)?;
        for warning in &values.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

/// Runs the command that the arguments name.
///
/// # Errors
/// What went wrong, for a person to read.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(sources) => {
            crate::telemetry::start_logging();
            runtime()?.block_on(serve::serve(sources.load()?))
        }
        Command::Config(sources) => {
            let values = sources.values()?;
            Config::from_values(&values)?;
            for (path, setting) in values.settings() {
                println!("{path} = {:?}  # {}", setting.text, setting.source);
            }
            for warning in &values.warnings {
                println!("# {warning}");
            }
            Ok(())
        }
        Command::Fsck { sources, dry_run } => fsck::fsck(&sources.load()?, !dry_run),
        Command::Refresh { sources, version } => runtime()?.block_on(serve::refresh(&sources.load()?, &version)),
        Command::Asset { sources, schematic, version, path, output, yes, sha256, plan } => {
            let wanted = asset::Wanted { schematic, version, path, output, yes, sha256, plan };
            runtime()?.block_on(asset::asset(&sources.load()?, &wanted))
        }
        Command::Overlay { sources, schematic, version, arch } => {
            runtime()?.block_on(overlay::overlay(&sources.load()?, &schematic, &version, arch))
        }
        Command::Verify(Verify::Image { sources, reference }) => {
            runtime()?.block_on(verify::image(&sources.load()?, &reference))
        }
        Command::Verify(Verify::Bundle { sources, bundle, file }) => verify::bundle(&sources.load()?, &bundle, &file),
        Command::Sandbox { folder, argument, parent } => match sandbox::confine(&folder, &argument, parent) {
            Ok(never) => match never {},
            Err(reason) => anyhow::bail!(reason),
        },
    }
}

fn arch(text: &str) -> Result<Arch, String> {
    Arch::parse(text).ok_or_else(|| "amd64 or arm64".to_owned())
}

/// Threads at most that read and write files. A thousand requests at once need no more, and each thread holds memory.
const BLOCKING_THREADS: usize = 128;

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build().context("starting the runtime")
}
