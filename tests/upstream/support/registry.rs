//! Debian's docker-registry on a free port, and skopeo to fill it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Name and password of [`DockerRegistry::with_password`].
pub const USER: (&str, &str) = ("user", "s3cret");
/// A line of htpasswd for [`USER`].
const HTPASSWD: &str = "user:$2b$05$9a0ww2y1di9jO6D8PD445OSjKsMF3/XC8Dkg6ycsPpg0NFcL2596K\n";

/// A running registry; it ends when this is dropped.
pub struct DockerRegistry {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    pub fn start() -> Self {
        Self::with(|_| (String::new(), String::new()))
    }

    /// A registry that asks for Basic authorization.
    pub fn with_password() -> Self {
        Self::with(|folder| {
            let path = folder.join("htpasswd");
            fs::write(&path, HTPASSWD).unwrap();
            (String::new(), format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display()))
        })
    }

    /// A registry that speaks TLS, with a certificate that nobody has reason to trust.
    pub fn with_tls() -> Self {
        Self::with(|folder| {
            let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
            let mut openssl = Command::new("openssl");
            openssl.args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ]);
            openssl.args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,IP:0.0.0.0", "-keyout"]);
            run(openssl.arg(&key).arg("-out").arg(&certificate));
            let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
            (tls, String::new())
        })
    }

    fn with(settings: impl Fn(&Path) -> (String, String)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (http, more) = settings(folder.path());
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}{more}",
            folder.path().join("data").display()
        );
        let path = folder.path().join("config.yml");
        fs::write(&path, config).unwrap();
        Self { child: spawn(&path, port), port, folder }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, with what it held.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder.path().join("config.yml"), self.port);
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Copies an entry of an image layout to `repository:tag`, with everything that it lists.
    pub fn push(&self, layout: &Path, name: &str, target: &str, options: &[&str]) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]).args(options);
        skopeo.arg(format!("oci:{}:{name}", layout.display())).arg(format!("docker://{}/{target}", self.host()));
        // Its own credentials must not leak in.
        run(skopeo.env("HOME", self.folder.path()).env("REGISTRY_AUTH_FILE", self.folder.path().join("auth.json")));
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(config: &Path, port: u16) -> Child {
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("docker-registry (Debian package docker-registry) must be installed");
    for _ in 0..1000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return child;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let end = child.wait();
    panic!("docker-registry does not listen on port {port}: {end:?}");
}

/// Copies an entry of one layout into another, with everything that it lists.
pub fn copy_layout(from: &Path, name: &str, to: &Path, new_name: &str) {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet", "--all"]);
    skopeo.arg(format!("oci:{}:{name}", from.display())).arg(format!("oci:{}:{new_name}", to.display()));
    run(&mut skopeo);
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
