//! Reads queues with arguments and policies, bindings and the exchange from RabbitMQ's management API. It serves
//! `leadhook topology check` and the worker's warnings; no delivery depends on it.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use url::Url;

use crate::{os_error, settings::BrokerUrl};

/// Time limit for the whole exchange of one request.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest answer in bytes: room for about ten thousand queues in one vhost.
const ANSWER_LIMIT: usize = 64 << 20;

/// The fields to read of each queue. All fields would be several times as long.
const COLUMNS: &str = "name,type,durable,arguments,messages_ready,policy,operator_policy,effective_policy_definition";

/// Why a request to the management API failed. Names the address, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// No HTTP answer.
    #[error("{url}: {problem}")]
    Unreachable {
        /// The URL without credentials.
        url: String,
        /// The cause.
        problem: String,
    },
    /// 401: the user is unknown, the password is wrong, or the user has none of the tags that the API requires.
    #[error(
        "{url}: refused with 401: user or password are wrong or missing in the URL, or the user may not see this vhost \
         or lacks the tag \"management\""
    )]
    Unauthorized {
        /// The URL without credentials.
        url: String,
    },
    /// An unexpected status.
    #[error("{url}: answers with status {status} to {path}")]
    Status {
        /// The URL without credentials.
        url: String,
        /// The status of the answer.
        status: StatusCode,
        /// The path of the request.
        path: String,
    },
    /// The answer is not the expected JSON.
    #[error("{url}: the answer to {path} is not that of a management API: {problem}")]
    Unreadable {
        /// The URL without credentials.
        url: String,
        /// The path of the request.
        path: String,
        /// The cause.
        problem: String,
    },
}

/// The parts of a vhost that concern Leadhook.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Upstream's exchange, if it exists.
    pub exchange: Option<SeenExchange>,
    /// All queues of the vhost.
    pub queues: Vec<SeenQueue>,
    /// All bindings of the events queue.
    pub bindings: Vec<SeenBinding>,
}

/// An exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct SeenExchange {
    /// The type, such as `topic` or `direct`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it survives a restart of the broker.
    pub durable: bool,
}

/// A queue.
#[derive(Clone, Debug, Deserialize)]
pub struct SeenQueue {
    /// Its name.
    pub name: String,
    /// `quorum`, `classic` or `stream`; very old brokers do not say.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whether it survives a restart of the broker.
    #[serde(default)]
    pub durable: bool,
    /// Its arguments: an object, or an empty array if there are none.
    #[serde(default)]
    arguments: Value,
    /// Waiting messages; `None` for some seconds, until the broker's statistics arrive.
    pub messages_ready: Option<u64>,
    /// The policy that applies.
    pub policy: Option<String>,
    /// The operator policy that applies.
    pub operator_policy: Option<String>,
    #[serde(default)]
    effective_policy_definition: Option<Value>,
}

impl SeenQueue {
    /// Returns the arguments that it was declared with.
    pub fn arguments(&self) -> Map<String, Value> {
        self.arguments.as_object().cloned().unwrap_or_default()
    }

    /// Returns what policy and operator policy together set. Returns `None` while the broker does not say, for some
    /// seconds after a queue was declared or a policy was changed.
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
    /// The routing key.
    pub routing_key: String,
}

/// The management API of one broker.
pub struct Management {
    client: Client,
    url: BrokerUrl,
}

impl Management {
    /// Prepares a client, but sends no request yet. `url` is the root of the API, such as
    /// `http://user:password@host:15672`.
    ///
    /// # Errors
    /// If no trusted certificates can be loaded.
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

    /// Reads the exchange, the bindings of the events queue, and all queues of the vhost.
    ///
    /// # Errors
    /// If the API cannot be reached, refuses the request, or does not know the vhost.
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

    /// Sends one GET. Returns `None` for 404. Encodes the parts of the path, so the vhost `/` becomes `%2F`.
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
            // Names only the place and the kind: the text of a data error could quote the answer.
            let problem = format!("{:?} error in line {}, column {}", error.classify(), error.line(), error.column());
            ManagementError::Unreadable { url: name, path, problem }
        })
    }
}

/// Returns `<root>/api/<parts>`. A root that already ends in `/api` stays as it is.
fn address(root: &BrokerUrl, parts: &[&str], columns: Option<&str>) -> Url {
    let mut url = root.expose().clone();
    url.set_fragment(None);
    url.set_query(None);
    let has_api = url.path().trim_end_matches('/').ends_with("/api");
    // Fails only for URLs that cannot have a path, and the settings accept only http and https.
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

/// Describes the error with its innermost cause, without the URL, which holds credentials.
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
        assert!(queues[2].policies().unwrap().is_empty(), "known, and empty");
    }
}
