//! TLS from a certificate chain and a key in PEM files, which are read again when they change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {path}: {reason}", path = path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// What tells one state of a file from another: device, inode, length, and when it changed (seconds and nanoseconds).
type State = Option<(u64, u64, u64, i64, i64)>;

/// An acceptor that follows its files.
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<TlsAcceptor>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(acceptor(cert, key)?);
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), current })
    }

    /// The acceptor for a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again each time they change, until the returned future is dropped. While certificate and key cannot
    /// be used, or do not belong together, the last good ones stay.
    pub async fn follow(&self) {
        let mut seen = self.states();
        loop {
            tokio::time::sleep(LOOK).await;
            self.look(&mut seen);
        }
    }

    /// Reads the files if they are others than those that were seen.
    fn look(&self, seen: &mut [State; 2]) {
        let states = self.states();
        if states == *seen {
            return;
        }
        *seen = states;
        match acceptor(&self.cert, &self.key) {
            Ok(acceptor) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                tracing::info!(certificate = %self.cert.display(), "the TLS certificate has changed and is used from now on");
            }
            Err(error) => tracing::warn!(%error, "the changed TLS certificate cannot be used; the last good one stays"),
        }
    }

    fn states(&self) -> [State; 2] {
        [&self.cert, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
        })
    }
}

/// An acceptor that offers HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`] naming the file, also when key and certificate do not belong together.
fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let failed = |path: &Path, reason: String| TlsError { path: path.to_owned(), reason };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| failed(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed(cert, "no certificate in it".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key_der))
        .map_err(|error| failed(key, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Makes a key and a certificate for `localhost` with openssl (a Debian package).
    fn make(cert: &Path, key: &Path) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let made = openssl.arg("-out").arg(cert).arg("-keyout").arg(key).output().expect("openssl, a Debian package");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// The certificate that a client is shown.
    async fn shown(certificate: &Certificate, trusted: &[&Path]) -> Vec<u8> {
        let mut roots = RootCertStore::empty();
        for path in trusted {
            roots.add(CertificateDer::from_pem_file(path).unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
        let (near, far) = tokio::io::duplex(64 << 10);
        let server = certificate.acceptor();
        let accepted = tokio::spawn(async move { server.accept(far).await.map(drop) });
        let stream = client.connect(ServerName::try_from("localhost").unwrap(), near).await.unwrap();
        accepted.await.unwrap().unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    #[tokio::test]
    async fn a_changed_certificate_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (cert, key) = (at("cert.pem"), at("key.pem"));
        make(&at("1.pem"), &at("1.key"));
        make(&at("2.pem"), &at("2.key"));
        let der = |name: &str| CertificateDer::from_pem_file(at(name)).unwrap().to_vec();
        let trusted = [at("1.pem"), at("2.pem")];
        let trusted: Vec<&Path> = trusted.iter().map(PathBuf::as_path).collect();
        std::fs::copy(at("1.pem"), &cert).unwrap();
        std::fs::copy(at("1.key"), &key).unwrap();
        let certificate = Certificate::read(&cert, &key).unwrap();
        let mut seen = certificate.states();
        assert_eq!(shown(&certificate, &trusted).await, der("1.pem"));

        // Half of a change: certificate and key do not belong together yet.
        std::fs::rename(at("2.pem"), &cert).unwrap();
        std::fs::copy(&cert, at("2.pem")).unwrap();
        certificate.look(&mut seen);
        assert_eq!(shown(&certificate, &trusted).await, der("1.pem"), "the last good one stays");
        std::fs::rename(at("2.key"), &key).unwrap();
        certificate.look(&mut seen);
        assert_eq!(shown(&certificate, &trusted).await, der("2.pem"));

        std::fs::write(&cert, "no certificate").unwrap();
        certificate.look(&mut seen);
        std::fs::remove_file(&key).unwrap();
        certificate.look(&mut seen);
        assert_eq!(shown(&certificate, &trusted).await, der("2.pem"), "the last good one stays");
    }
}
