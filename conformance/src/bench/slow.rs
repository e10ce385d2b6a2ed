//! A client at full speed, alone and beside many slow ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::http::Connection;
use super::iso::{iso, unavailable};
use super::load::pull;
use super::report::{Line, bandwidth, median};
use super::world::World;

/// Slow clients.
const CLIENTS: usize = 500;

/// Bytes that each takes a second.
const PACE: usize = 10 * 1024;

/// How long the client at full speed is measured.
const TIME: Duration = Duration::from_secs(5);

/// Rounds of alone and beside, one after the other.
const ROUNDS: usize = 3;

/// What a client at full speed keeps while others pull slowly.
pub fn slow(world: &mut World) -> Result<Vec<Line>> {
    if let Some(lines) = unavailable(world)? {
        return Ok(lines);
    }
    let id = world.post()?;
    let (address, path) = (world.factory()?.address(), iso(&id));
    pull(address, &path, 1, TIME)?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(pull(address, &path, 1, TIME)?);
        beside.push(crowded(address, &path)?);
    }
    let what = format!("full speed beside {CLIENTS} clients at 10 KiB/s, ISO, one connection");
    let line = Line::rate(what, median(&beside), median(&alone), 0.9, bandwidth);
    Ok(vec![line.against("ours alone")])
}

/// Bytes a second over one connection while slow clients pull; none of them may be cut off.
fn crowded(address: &str, path: &str) -> Result<f64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = || -> Result<()> {
            let mut connection = Connection::with_buffer(address, PACE)?;
            let head = connection.request("GET", path, &[])?;
            ensure!(head.status == 200, "GET {path}: {}", head.status);
            let mut left = head.length;
            while left > 0 && !done.load(Ordering::Relaxed) {
                left -= connection.some(left, |_| {})?;
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        };
        let builder = || std::thread::Builder::new().stack_size(128 * 1024);
        let clients: Vec<_> = (0..CLIENTS).map(|_| builder().spawn_scoped(scope, client)).collect::<Result<_, _>>()?;
        // Until all of them have connected and filled their buffers.
        std::thread::sleep(Duration::from_secs(2));
        let rate = pull(address, path, 1, TIME);
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let ended = client.join().unwrap_or_else(|_| anyhow::bail!("a thread broke off"));
            ended?;
        }
        rate
    })
}
