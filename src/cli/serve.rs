//! `serve` and what shares its wiring.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::factory::{Factory, FactoryParts, Sources};
use crate::frontend::Frontend;
use crate::server::{self, Server};
use crate::sign::ImageSigner;
use crate::store::{BlobStore, FileStore, FileStoreConfig, RecordKind};
use crate::telemetry::Metrics;
use crate::types::TalosVersion;
use crate::upstream::{Upstream, UpstreamConfig};
use crate::verify::Verifier;

/// The key's name in the store.
const SIGNING_KEY: &str = "signing-key.pem";

/// Opens the store that the configuration names.
pub fn open_store(config: &Config) -> anyhow::Result<FileStore> {
    let wanted = FileStoreConfig { path: config.store.path.clone(), max_size: config.store.max_size };
    FileStore::open(wanted).with_context(|| format!("opening the store in {}", config.store.path.display()))
}

/// The client of the configured upstream.
pub fn upstream(config: &Config) -> anyhow::Result<Upstream> {
    let artifacts = &config.artifacts;
    let home = std::env::var_os("DOCKER_CONFIG").map(std::path::PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")));
    let wanted = UpstreamConfig {
        registry: artifacts.registry.clone(),
        namespace: artifacts.namespace.clone(),
        insecure: artifacts.insecure,
        docker_config: home.map(|folder| folder.join("config.json")),
        github_token: std::env::var("GITHUB_TOKEN").ok().filter(|token| !token.is_empty()),
        max_parallel: artifacts.max_parallel_downloads,
        ..UpstreamConfig::default()
    };
    Ok(Upstream::new(wanted)?)
}

/// The configured key, or the one that was made at first start, or a new one.
fn signer(config: &Config, store: &dyn BlobStore) -> anyhow::Result<ImageSigner> {
    if let Some(path) = &config.signing_key_path {
        let pem = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        return ImageSigner::from_pem(&pem).with_context(|| path.display().to_string());
    }
    if let Some(bytes) = store.record(RecordKind::Key, SIGNING_KEY)? {
        return Ok(ImageSigner::from_pem(std::str::from_utf8(&bytes).context("the stored signing key")?)?);
    }
    let (signer, pem) = ImageSigner::generate()?;
    store.put_record(RecordKind::Key, SIGNING_KEY, pem.as_bytes())?;
    tracing::info!("made a key to sign images with; it is kept in the store");
    Ok(signer)
}

/// The configured factory, and what verifies its sources.
pub fn factory(
    config: &Config,
    store: FileStore,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<Factory>, Arc<Verifier>)> {
    let store: Arc<dyn BlobStore> = Arc::new(store);
    let verifier = Arc::new(super::verify::verifier(config)?);
    let sources = sources(config, store.clone(), verifier.clone(), metrics.clone())?;
    let factory = Arc::new(Factory::new(FactoryParts {
        signer: signer(config, store.as_ref())?,
        store,
        sources,
        metrics: metrics.clone(),
        build: config.build.clone(),
        external_url: config.http.external_url.clone(),
        external_pxe_url: config.http.external_pxe_url.clone(),
        registry: config.artifacts.registry.clone(),
        schematic_capacity: config.schematic_capacity,
    }));
    Ok((factory, verifier))
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let store = open_store(&config)?;
    // Until the end: the store is scrubbed while it serves.
    let _keeper = store.keep(metrics.clone())?;
    let (factory, verifier) = factory(&config, store, &metrics)?;
    if let Some(address) = config.metrics_addr {
        server::serve_metrics(address, metrics.clone()).await?;
    }
    let server = Server::bind(&config.http, metrics.clone()).await?;
    tracing::info!(address = %server.address()?, external_url = %config.http.external_url, "serving");
    let frontend = Arc::new(Frontend::new(factory.clone(), metrics.clone(), &config.http.allowed_origins));
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("draining");
    };
    let interval = config.artifacts.recheck_interval;
    tokio::select! {
        () = server.run(frontend, stop) => {}
        () = factory.keep_versions(interval, &metrics) => {}
        () = super::verify::keep_fresh(&verifier) => {}
    }
    Ok(())
}

fn sources(
    config: &Config,
    store: Arc<dyn BlobStore>,
    verifier: Arc<Verifier>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Arc<Sources>> {
    let components = config.artifacts.components.clone();
    Ok(Arc::new(Sources::new(Arc::new(upstream(config)?), verifier, store, metrics, components)))
}

/// Forgets what a version's tags stand for.
pub async fn refresh(config: &Config, version: &str) -> anyhow::Result<()> {
    let version = TalosVersion::parse(version)?;
    let store: Arc<dyn BlobStore> = Arc::new(open_store(config)?);
    let verifier = Arc::new(super::verify::verifier(config)?);
    let forgotten = sources(config, store, verifier, Arc::default())?.forget(&version).await?;
    println!("{version}: {forgotten} tags are resolved anew when they are next asked for");
    Ok(())
}
