//! Bare hyper connections, and the minimum of code that reuses them for the next POST.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The connections to one host.
#[derive(Clone)]
pub struct Pool {
    host: Arc<str>,
    base: Arc<str>,
    idle: Arc<Mutex<Vec<Sender>>>,
}

type Sender = http1::SendRequest<Full<Bytes>>;

impl Pool {
    /// Creates a pool for `http://host:port/first-part`.
    pub fn new(target: &str) -> anyhow::Result<Pool> {
        let url: url::Url = target.parse()?;
        let host = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80));
        Ok(Pool { host: host.into(), base: url.path().trim_end_matches('/').into(), idle: Arc::default() })
    }

    /// POSTs, reads the whole answer, and returns its status.
    pub async fn post(&self, path: &str, body: Bytes) -> anyhow::Result<u16> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut sender = match idle {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let request = Request::post(format!("{}/{path}", self.base))
            .header(header::HOST, &*self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        sender.ready().await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(status)
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let stream = TcpStream::connect(&*self.host).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
