//! A reader of RabbitMQ's management API: queues with arguments and policies, bindings, the exchange. It only reads, for
//! `leadhook topology check` and for the worker's warnings; nothing that delivers depends on it.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use url::Url;

use crate::{os_error, settings::BrokerUrl};

/// For the whole exchange of one request.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest answer: room for some ten thousand queues in one vhost.
const ANSWER_LIMIT: usize = 64 << 20;

/// What is read of each queue; the whole would be several times as long.
const COLUMNS: &str = "name,type,durable,arguments,messages_ready,policy,operator_policy,effective_policy_definition";

/// Why the management API was of no use. Names the address, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// No HTTP answer.
    #[error("{url}: {problem}")]
    Unreachable {
        /// Without credentials.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// 401: unknown user, wrong password, or the user has none of the tags that the API asks for.
    #[error(
        "{url}: refused with 401: user or password are wrong or missing in the URL, or the user may not see this vhost \
         or lacks the tag \"management\""
    )]
    Unauthorized {
        /// Without credentials.
        url: String,
    },
    /// Another status.
    #[error("{url}: answers with status {status} to {path}")]
    Status {
        /// Without credentials.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// What was asked for.
        path: String,
    },
    /// Not the JSON that was expected.
    #[error("{url}: the answer to {path} is not that of a management API: {problem}")]
    Unreadable {
        /// Without credentials.
        url: String,
        /// What was asked for.
        path: String,
        /// What went wrong.
        problem: String,
    },
}

/// What stands in a vhost, as far as it concerns us.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The exchange of upstream, if it stands.
    pub exchange: Option<SeenExchange>,
    /// All queues of the vhost.
    pub queues: Vec<SeenQueue>,
    /// All bindings of the events queue.
    pub bindings: Vec<SeenBinding>,
}

/// An exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct SeenExchange {
    /// `topic`, `direct` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it outlives the broker.
    pub durable: bool,
}

/// A queue.
#[derive(Clone, Debug, Deserialize)]
pub struct SeenQueue {
    /// Its name.
    pub name: String,
    /// `quorum`, `classic`, `stream`; unknown to very old brokers.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whether it outlives the broker.
    #[serde(default)]
    pub durable: bool,
    /// Its arguments; an object, or an empty array when there are none.
    #[serde(default)]
    arguments: Value,
    /// Messages that wait; unknown until the broker's statistics come (some seconds).
    pub messages_ready: Option<u64>,
    /// The policy that applies.
    pub policy: Option<String>,
    /// The operator policy that applies.
    pub operator_policy: Option<String>,
    #[serde(default)]
    effective_policy_definition: Option<Value>,
}

impl SeenQueue {
    /// The arguments that it was declared with.
    pub fn arguments(&self) -> Map<String, Value> {
        self.arguments.as_object().cloned().unwrap_or_default()
    }

    /// What policy and operator policy together set; `None` while the broker does not say: it takes some seconds after
    /// a queue was declared or a policy was changed.
    pub fn policies(&self) -> Option<Map<String, Value>> {
        let definition = self.effective_policy_definition.as_ref()?;
        Some(definition.as_object().cloned().unwrap_or_default())
    }
}

/// A binding of the events queue.
#[derive(Clone, Debug, Deserialize)]
pub struct SeenBinding {
    /// The exchange; empty for the default exchange.
    pub source: String,
    /// The key.
    pub routing_key: String,
}

/// The management API of one broker.
pub struct Management {
    client: Client,
    url: BrokerUrl,
}

impl Management {
    /// Prepares a client; asks nothing yet. `url` is that of the API's root, such as `http://user:password@host:15672`.
    ///
    /// # Errors
    /// When no trusted certificates can be loaded.
    pub fn new(url: &BrokerUrl) -> Result<Management, ManagementError> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .timeout(PATIENCE);
        let client = builder.build().map_err(|error| unreachable(url, &error))?;
        Ok(Management { client, url: url.clone() })
    }

    /// Reads what concerns the exchange and the events queue, and all queues of the vhost.
    ///
    /// # Errors
    /// The API could not be reached, would not answer, or the vhost is not there.
    pub async fn see(&self, vhost: &str, exchange: &str, events: &str) -> Result<Seen, ManagementError> {
        let queues = self.queues(vhost).await?;
        let exchange = self.get(&["exchanges", vhost, exchange], None).await?;
        let bindings = self.get(&["queues", vhost, events, "bindings"], None).await?.unwrap_or_default();
        Ok(Seen { exchange, queues, bindings })
    }

    /// Reads all queues of a vhost.
    ///
    /// # Errors
    /// As [`Management::see`].
    pub async fn queues(&self, vhost: &str) -> Result<Vec<SeenQueue>, ManagementError> {
        Ok(self.get(&["queues", vhost], Some(COLUMNS)).await?.unwrap_or_default())
    }

    /// One GET; `None` for 404. The path's parts are encoded, so that a vhost `/` is `%2F`.
    async fn get<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        columns: Option<&str>,
    ) -> Result<Option<T>, ManagementError> {
        let url = address(&self.url, parts, columns);
        let path = url.path().to_owned();
        let mut answer = self.client.get(url).send().await.map_err(|error| unreachable(&self.url, &error))?;
        let name = self.url.to_string();
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::UNAUTHORIZED => return Err(ManagementError::Unauthorized { url: name }),
            status => return Err(ManagementError::Status { url: name, status, path }),
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&self.url, &error))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                let problem = format!("longer than {} MiB", ANSWER_LIMIT >> 20);
                return Err(ManagementError::Unreadable { url: name, path, problem });
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            // Only where and what kind: the text of a data error could quote the answer.
            let problem = format!("{:?} error in line {}, column {}", error.classify(), error.line(), error.column());
            ManagementError::Unreadable { url: name, path, problem }
        })
    }
}

/// `<root>/api/<parts>`; a root that already ends in `api` is taken as it is.
fn address(root: &BrokerUrl, parts: &[&str], columns: Option<&str>) -> Url {
    let mut url = root.expose().clone();
    url.set_fragment(None);
    url.set_query(None);
    let has_api = url.path().trim_end_matches('/').ends_with("/api");
    // Fails only for URLs that cannot have a path; settings take http and https alone.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        if !has_api {
            path.push("api");
        }
        path.extend(parts);
    }
    if let Some(columns) = columns {
        url.query_pairs_mut().append_pair("columns", columns);
    }
    url
}

/// The error with its causes, without the URL, which holds credentials.
fn unreachable(url: &BrokerUrl, error: &reqwest::Error) -> ManagementError {
    let mut problem = if error.is_timeout() { "no answer in time".to_owned() } else { "cannot be reached".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        cause = inner.source();
        if cause.is_none() {
            let inner = inner.downcast_ref().map_or_else(|| inner.to_string(), os_error::words);
            problem = format!("{problem} ({inner})");
        }
    }
    ManagementError::Unreachable { url: url.to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(root: &str, parts: &[&str]) -> String {
        address(&BrokerUrl::new(root.parse().unwrap()), parts, None).to_string()
    }

    #[test]
    fn addresses_are_encoded_and_may_have_a_path_before_them() {
        assert_eq!(at("http://u:p@m:15672", &["queues", "/"]), "http://u:p@m:15672/api/queues/%2F");
        assert_eq!(at("http://m/rabbit/", &["queues", "a b%/ü"]), "http://m/rabbit/api/queues/a%20b%25%2F%C3%BC");
        assert_eq!(at("https://m/api/", &["exchanges", "v", "x"]), "https://m/api/exchanges/v/x");
    }

    #[test]
    fn queues_are_read_with_and_without_statistics() {
        let text = r#"[
            {"name":"a","type":"quorum","durable":true,"arguments":{"x-queue-type":"quorum"}},
            {"name":"b","type":"classic","durable":true,"arguments":[],"messages_ready":3,"policy":"p",
             "operator_policy":null,"effective_policy_definition":{"expires":5}},
            {"name":"c","type":"quorum","durable":true,"arguments":{},"effective_policy_definition":[]}
        ]"#;
        let queues: Vec<SeenQueue> = serde_json::from_str(text).unwrap();
        assert_eq!(queues[0].arguments()["x-queue-type"], "quorum");
        assert!(queues[0].policies().is_none(), "not known yet");
        assert!(queues[1].arguments().is_empty());
        assert_eq!(queues[1].policies().unwrap()["expires"], 5);
        assert!(queues[2].policies().unwrap().is_empty(), "known, and none");
    }
}
