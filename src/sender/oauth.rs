//! OAuth 2.0 tokens for receivers that want them: client credentials (RFC 6749, section 4.4).
//!
//! A token belongs to one organization and its credentials. It is used until shortly before it expires, or until the
//! receiver answers 401. One request at a time fetches it, with its own deadline. All attempts wait for the same
//! request, each until the attempt's own deadline. Tokens are kept in memory only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::{
    delivery::{
        exchange::Answer,
        fault::{Fault, TokenFault},
        request::AGENT,
    },
    store::Oauth2,
};

/// Limit for one request for a token.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a token is used if the endpoint does not say (RFC 6749 only recommends that it does).
const UNSAID: Duration = Duration::from_secs(300);

/// The longest time that a token is used.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A token is fetched again this long before it expires, or a tenth of its lifetime if that is less.
const EARLY: Duration = Duration::from_secs(30);

/// The pause after a failed request, before the next one.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The most tokens that are kept. When there are more, all are fetched again.
const MOST: usize = 4096;

/// The owner of a token: an organization, and the fingerprint of the credentials.
type Owner = (String, [u8; 32]);

/// The result of a fetch: the `Authorization` header.
type Fetched = Result<HeaderValue, Fault>;

/// The tokens in use.
#[derive(Clone, Default)]
pub(super) struct Tokens(Arc<Mutex<HashMap<Owner, Slot>>>);

enum Slot {
    Fetching(Shared<BoxFuture<'static, Fetched>>),
    Ready { header: HeaderValue, until: Instant },
    Failed { fault: Fault, until: Instant },
}

impl Tokens {
    fn put(&self, owner: Owner, slot: Slot) {
        let mut slots = self.lock();
        if slots.len() >= MOST && !slots.contains_key(&owner) {
            slots.clear();
        }
        slots.insert(owner, slot);
    }

    /// Drops a token that the receiver refused, unless a newer one has replaced it.
    pub(super) fn refused(&self, organization: &str, credentials: &Oauth2, refused: &HeaderValue) {
        let owner = (organization.to_owned(), credentials.fingerprint());
        let mut slots = self.lock();
        if matches!(slots.get(&owner), Some(Slot::Ready { header, .. }) if header == refused) {
            slots.remove(&owner);
        }
    }
}

impl Tokens {
    /// Returns the `Authorization` header for an attempt: the token in use, or the one that `ask` fetches.
    ///
    /// # Errors
    /// The error of `ask`, or [`Fault::Oauth`] if no token arrives by `deadline`.
    pub(super) async fn header<F>(
        &self,
        organization: &str,
        credentials: &Oauth2,
        deadline: Instant,
        ask: impl FnOnce() -> F,
    ) -> Fetched
    where
        F: Future<Output = Result<Granted, Fault>> + Send + 'static,
    {
        let owner = (organization.to_owned(), credentials.fingerprint());
        let fetching = {
            let mut slots = self.lock();
            match slots.get(&owner) {
                Some(Slot::Ready { header, until }) if *until > Instant::now() => return Ok(header.clone()),
                Some(Slot::Failed { fault, until }) if *until > Instant::now() => return Err(*fault),
                Some(Slot::Fetching(fetching)) if fetching.peek().is_none() => fetching.clone(),
                // No slot is usable. A fetch that has ended and left no other slot has panicked.
                Some(_) | None => {
                    let fetching = self.clone().fetch(owner.clone(), ask());
                    // The fetch is its own task, so it does not end with the attempt that began it.
                    let fetching =
                        tokio::spawn(fetching).map(|ended| ended.unwrap_or(Err(Fault::Panic))).boxed().shared();
                    slots.insert(owner, Slot::Fetching(fetching.clone()));
                    fetching
                }
            }
        };
        let late = Err(Fault::Oauth(TokenFault::Failed("timeout")));
        tokio::time::timeout_at(deadline.into(), fetching).await.unwrap_or(late)
    }

    async fn fetch(self, owner: Owner, ask: impl Future<Output = Result<Granted, Fault>>) -> Fetched {
        let begun = Instant::now();
        let fetched = ask.await;
        let slot = match &fetched {
            Ok(Granted { header, serves }) => {
                Slot::Ready { header: header.clone(), until: begun + *serves - EARLY.min(*serves / 10) }
            }
            Err(fault) => Slot::Failed { fault: *fault, until: Instant::now() + AFTER_FAILURE },
        };
        self.put(owner, slot);
        fetched.map(|granted| granted.header)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token that an endpoint gave.
pub(super) struct Granted {
    /// The `Authorization` header with the token.
    header: HeaderValue,
    /// How long it may be used, counted from the request for it.
    serves: Duration,
}

/// The answer of a token endpoint (RFC 6749, section 5.1). Some write the seconds as text, and some omit the type.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// Returns the request's headers. They hold client and secret, which every endpoint must accept there (RFC 6749,
/// section 2.3.1).
pub(super) fn headers(credentials: &Oauth2) -> Option<HeaderMap> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(&credentials.client_id), encoded(credentials.client_secret()));
    let mut basic = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
    basic.set_sensitive(true);
    Some(HeaderMap::from_iter([
        (AUTHORIZATION, basic),
        (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(AGENT)),
    ]))
}

pub(super) fn form(credentials: &Oauth2) -> Bytes {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &credentials.scope {
        form.append_pair("scope", scope);
    }
    form.finish().into()
}

/// Returns the token of an answer; `None` if there is none.
pub(super) fn granted(answer: &Answer) -> Option<Granted> {
    let body = answer.body.as_deref().filter(|_| answer.status == 200)?;
    let granted: TokenAnswer = serde_json::from_slice(body).ok()?;
    if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {}", granted.access_token)).ok()?;
    header.set_sensitive(true);
    let seconds = granted.expires_in.as_ref().and_then(|value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let serves = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    Some(Granted { header, serves: serves.unwrap_or(UNSAID).min(LONGEST) })
}
