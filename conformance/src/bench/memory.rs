//! What a process holds: its anonymous memory, sampled while something runs.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http::Connection;
use super::report::{Line, bytes};
use super::world::{VERSION, World, image};

/// Time between two samples.
const PACE: Duration = Duration::from_millis(5);

/// Pulls of whole images, as many at once, of so many images that nobody asked for before.
const PULLS: usize = 1000;
const AT_ONCE: usize = 64;
const IMAGES: usize = 40;

/// Of so many pulls one is hashed: hashing all would leave the server no processor.
const HASHED: usize = 50;

/// Watches the anonymous memory (`RssAnon`) of a process.
pub struct Watch {
    peak: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts to watch.
    pub fn start(pid: u32) -> Result<Self> {
        let peak = Arc::new(AtomicU64::new(anonymous(pid)?));
        let done = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (peak, done) = (peak.clone(), done.clone());
            move || {
                while !done.load(Ordering::Relaxed) {
                    // A process that ended is found by who talks to it.
                    peak.fetch_max(anonymous(pid).unwrap_or_default(), Ordering::Relaxed);
                    std::thread::sleep(PACE);
                }
            }
        });
        Ok(Self { peak, done, thread })
    }

    /// Ends watching: the most that there was, in bytes.
    pub fn peak(self) -> Result<u64> {
        self.done.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            bail!("the watch broke off");
        }
        Ok(self.peak.load(Ordering::Relaxed))
    }
}

/// `RssAnon` of a process, in bytes.
pub fn anonymous(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Runs `job` for each number below `jobs` on threads of their own, `at_once` at a time; the first error ends it.
pub fn parallel(jobs: usize, at_once: usize, job: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return Ok(());
                }
                if let Err(error) = job(n) {
                    next.store(jobs, Ordering::Relaxed);
                    return Err(error);
                }
            }
        };
        let builder = || std::thread::Builder::new().stack_size(256 * 1024);
        let threads = (0..at_once).map(|_| builder().spawn_scoped(scope, work)).collect::<Result<Vec<_>, _>>()?;
        let mut outcome = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| bail!("a thread broke off"));
            outcome = outcome.and(ended);
        }
        outcome
    })
}

/// Peak anonymous memory over whole pulls of installers (index, manifest, config, all layers of amd64).
pub fn pulls(world: &mut World) -> Result<Vec<Line>> {
    world.restart()?;
    let ids = (0..IMAGES).map(|_| world.post()).collect::<Result<Vec<_>>>()?;
    let address = world.factory()?.address();
    let watch = Watch::start(world.factory()?.pid())?;
    let pulled = AtomicU64::new(0);
    let start = Instant::now();
    parallel(PULLS, AT_ONCE, |n| {
        let mut connection = Connection::open(address)?;
        let image = image(&mut connection, &ids[n % ids.len()])?;
        let path = format!("/v2/installer/{}/manifests/{}", image.id, image.manifest);
        let (_, manifest) = connection.get(&path)?;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
        let config = manifest["config"]["digest"].as_str().context("no config")?;
        connection.get(&format!("/v2/installer/{}/blobs/{config}", image.id))?;
        for (digest, size) in &image.layers {
            let (length, hex) =
                connection.pull(&format!("/v2/installer/{}/blobs/{digest}", image.id), n % HASHED == 0)?;
            anyhow::ensure!(length == *size, "{digest} has {length} bytes, not {size}");
            if let Some(hex) = hex {
                anyhow::ensure!(*digest == format!("sha256:{hex}"), "{digest} serves {hex}");
            }
            pulled.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let rate = pulled.into_inner() as f64 / start.elapsed().as_secs_f64();
    let peak = watch.peak()?;
    println!("    {PULLS} pulls of {IMAGES} never-asked images of {VERSION}, {}", super::report::bandwidth(rate));
    let what = format!("peak RssAnon, {PULLS} pulls, {AT_ONCE} at once");
    Ok(vec![Line::at_most(what, peak as f64, 64.0 * 1_048_576.0, bytes)])
}
