//! docker and containerd, the daemons that nodes and people pull with.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conformance::run;

use super::world::{THREE, World};

/// A daemon of our own, ended when dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts a daemon and waits until `ready` succeeds.
    fn start(mut command: Command, log: &Path, ready: impl Fn() -> bool) -> Result<Self> {
        let output = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let daemon = Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready() {
            let said = || std::fs::read_to_string(log).unwrap_or_default();
            ensure!(Instant::now() < deadline, "{command:?} does not answer:\n{}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // A clean end, so that it takes its mounts with it; then the other kind.
        let _ = Command::new("kill").arg(&pid).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && !matches!(self.0.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn docker_pulls_both_architectures() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let host = format!("unix://{}", world.at("docker.sock").display());
    let docker = |args: &[&str]| {
        let mut docker = Command::new("/usr/bin/docker");
        docker.arg("--host").arg(&host).args(args);
        docker
    };
    let mut dockerd = Command::new("dockerd");
    dockerd.args(["--iptables=false", "--bridge=none", "--storage-driver=vfs", "--host", &host]);
    dockerd.arg("--data-root").arg(world.at("docker")).arg("--exec-root").arg(world.at("docker-exec"));
    dockerd.arg("--pidfile").arg(world.at("docker.pid"));
    let ready = || docker(&["version"]).output().is_ok_and(|done| done.status.success());
    let _daemon = Daemon::start(dockerd, &world.at("dockerd.log"), ready).unwrap();
    let name = format!("installer/{id}");
    let [index, ..] = world.digests(&name, "v1.13.2").unwrap();
    let image = format!("{}/{name}:v1.13.2", world.factory.address());
    for arch in ["amd64", "arm64"] {
        let pulled = run::text(&mut docker(&["pull", "--platform", &format!("linux/{arch}"), &image])).unwrap();
        assert!(pulled.contains(&format!("Digest: {index}")), "{pulled}");
        let found = run::text(&mut docker(&["image", "inspect", "--format", "{{.Architecture}}", &image])).unwrap();
        assert_eq!(found.trim(), arch);
        let pulled = run::text(&mut docker(&["image", "inspect", "--format", "{{.Id}}", &image])).unwrap();
        run::output(&mut docker(&["image", "rm", "--force", &image])).unwrap();
        let archive = world.at("installer.tar");
        let mut answer = world.get(&format!("/image/{id}/v1.13.2/installer-{arch}.tar")).unwrap();
        answer.copy_to(&mut std::fs::File::create(&archive).unwrap()).unwrap();
        run::output(&mut docker(&["load", "--input", archive.to_str().unwrap()])).unwrap();
        let loaded = run::text(&mut docker(&["image", "list", "--all", "--quiet", "--no-trunc"])).unwrap();
        assert_eq!(loaded, pulled, "the archive is the image that was pulled");
        run::output(&mut docker(&["image", "rm", "--force", loaded.trim()])).unwrap();
    }
}

#[test]
fn containerd_pulls_both_architectures() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let socket = world.at("containerd.sock").display().to_string();
    let config = world.at("containerd.toml");
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
        world.at("containerd"),
        world.at("containerd-state"),
    );
    std::fs::write(&config, text).unwrap();
    let ctr = |args: &[&str]| {
        let mut ctr = Command::new("ctr");
        ctr.args(["--address", &socket]).args(args);
        ctr
    };
    let mut containerd = Command::new("containerd");
    containerd.arg("--config").arg(&config);
    let ready = || ctr(&["version"]).output().is_ok_and(|done| done.status.success());
    let _daemon = Daemon::start(containerd, &world.at("containerd.log"), ready).unwrap();
    let name = format!("aws-installer/{id}");
    let [index, ..] = world.digests(&name, "v1.9.5").unwrap();
    let image = format!("{}/{name}:v1.9.5", world.factory.address());
    for platform in ["linux/amd64", "linux/arm64"] {
        let mut pull = ctr(&["images", "pull", "--plain-http", "--snapshotter", "native", "--platform", platform]);
        run::output(pull.arg(&image)).unwrap();
        let listed = run::text(&mut ctr(&["images", "list"])).unwrap();
        assert!(listed.contains(&index), "{listed}");
    }
}
