//! Accept loop, TLS, limits, drain.

mod pace;
mod stall;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::config::HttpConfig;
use crate::frontend::{Frontend, Peer};
use crate::telemetry::Metrics;

use pace::Paced;
use stall::{Busy, Guarded};
use tls::Certificate;
pub use tls::TlsError;

/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 128;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    tls: Option<Certificate>,
    config: HttpConfig,
    metrics: Arc<Metrics>,
}

impl Server {
    /// Listens, with TLS if the configuration names a certificate.
    ///
    /// # Errors
    /// [`ServerError`] when the address is taken or the certificate cannot be used.
    pub async fn bind(config: &HttpConfig, metrics: Arc<Metrics>) -> Result<Self, ServerError> {
        let tls = config.tls.as_ref().map(|(cert, key)| Certificate::read(cert, key)).transpose()?;
        let listener = listen(config.listen).await?;
        Ok(Self { listener, tls, config: config.clone(), metrics })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is done; then accepts no more, and lets requests under way go on for the drain time.
    pub async fn run(self, frontend: Arc<Frontend>, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let following = async {
            match &self.tls {
                Some(certificate) => certificate.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(stop, following);
        loop {
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                () = &mut stop => break,
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut stop => break,
                () = &mut following => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors or a connection that broke off: others go on.
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let watcher = graceful.watcher();
            let (frontend, config, tls) =
                (frontend.clone(), self.config.clone(), self.tls.as_ref().map(Certificate::acceptor));
            let metrics = self.metrics.clone();
            tokio::spawn(async move {
                metrics.connections.inc();
                connection((stream, Peer(peer.ip())), tls, &config, frontend, watcher).await;
                metrics.connections.dec();
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(self.config.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests still under way after the drain time are cut off");
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        // A machine without IPv6: every IPv4 address is what ":port" can mean there.
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            let v4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
            TcpListener::bind(v4).await.map_err(|source| ServerError::Listen { address: v4, source })
        }
        Err(source) => Err(ServerError::Listen { address, source }),
    }
}

async fn connection(
    (stream, peer): (TcpStream, Peer),
    tls: Option<TlsAcceptor>,
    config: &HttpConfig,
    frontend: Arc<Frontend>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let busy = Busy::default();
    let stream = Guarded::new(Paced::new(stream), config.idle_timeout, config.write_timeout, busy.clone());
    match tls {
        None => exchange((stream, peer), config, frontend, watcher, busy).await,
        Some(acceptor) => match tokio::time::timeout(config.header_read_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => exchange((stream, peer), config, frontend, watcher, busy).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

async fn exchange<S>(
    (stream, peer): (S, Peer),
    config: &HttpConfig,
    frontend: Arc<Frontend>,
    watcher: hyper_util::server::graceful::Watcher,
    busy: Busy,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let frontend = frontend.clone();
        request.extensions_mut().insert(peer);
        // Other methods have bodies, for which nobody waits for ever.
        let making = matches!(*request.method(), Method::GET | Method::HEAD).then(|| busy.begin());
        async move {
            let answer = frontend.handle(request).await;
            drop(making);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(config.max_header_size)
        .max_headers(100)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(config.max_header_size as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Some(config.idle_timeout))
        .keep_alive_timeout(config.header_read_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, "connection");
    }
}

/// Serves the metrics on a listener of their own until the process ends.
///
/// # Errors
/// [`ServerError::Listen`] when the address is taken.
pub async fn serve_metrics(address: SocketAddr, metrics: Arc<Metrics>) -> Result<(), ServerError> {
    let listener = listen(address).await?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let metrics = metrics.clone();
            tokio::spawn(async move {
                let service = service_fn(move |_: Request<Incoming>| {
                    let mut response = Response::new(Full::new(bytes::Bytes::from(metrics.encode())));
                    response.headers_mut().insert(
                        http::header::CONTENT_TYPE,
                        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                    );
                    async move { Ok::<_, Infallible>(response) }
                });
                let stream = Guarded::new(stream, Duration::from_secs(60), Duration::from_secs(10), Busy::default());
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(())
}
