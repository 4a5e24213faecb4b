//! Tokens of OAuth 2.0 for receivers that want them: client credentials (RFC 6749, section 4.4).
//!
//! A token belongs to one organization and its credentials, and serves until shortly before it expires, or until the receiver
//! answers 401. One request at a time is made for it: other attempts wait for that one. Tokens live in memory only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use serde::Deserialize;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::{Inner, Post};
use crate::{
    delivery::{
        outcome::{Answer, Fault},
        request::AGENT,
    },
    store::{Oauth2, target::lane_name},
};

/// How long a token serves where the endpoint says nothing (RFC 6749 only recommends that it does).
const UNSAID: Duration = Duration::from_secs(300);

/// A token is fetched anew so long before it expires, or a tenth of its time if that is less.
const EARLY: Duration = Duration::from_secs(30);

/// Tokens that are kept. When there are more, all are fetched anew.
const MOST: usize = 4096;

/// Whose token it is: an organization, and the credentials that it was got with.
type Owner = (String, [u8; 32]);

/// One token, fetched by whoever holds the lock.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The tokens in use.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Owner, Slot>>);

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// What a token endpoint answers (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

impl Tokens {
    fn slot(&self, organization: &str, credentials: &Oauth2) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = (organization.to_owned(), credentials.print());
        if slots.len() >= MOST && !slots.contains_key(&owner) {
            slots.clear();
        }
        slots.entry(owner).or_default().clone()
    }

    /// Forgets a token that the receiver refused, unless there is another one already.
    pub(super) async fn refused(&self, organization: &str, credentials: &Oauth2, header: &HeaderValue) {
        let slot = self.slot(organization, credentials);
        slot.lock().await.take_if(|token| token.header == *header);
    }
}

impl Inner {
    /// The `Authorization` header for an attempt.
    ///
    /// # Errors
    /// [`Fault::Oauth`] when the endpoint gives no token; what is this machine's or the proxy's fault stays so.
    pub(super) async fn token(&self, post: Post<'_>, credentials: &Oauth2) -> Result<HeaderValue, Fault> {
        let slot = self.tokens.slot(post.organization, credentials);
        let mut slot = slot.lock().await;
        match &*slot {
            Some(token) if token.until > Instant::now() => Ok(token.header.clone()),
            _ => Ok(slot.insert(self.fetch(post, credentials).await?).header.clone()),
        }
    }

    async fn fetch(&self, post: Post<'_>, credentials: &Oauth2) -> Result<Token, Fault> {
        let url = &credentials.token_url;
        let circuit = lane_name(post.organization, url);
        let asking =
            Post { url, circuit: &circuit, identity: None, authority: None, oauth2: None, whole_body: true, ..post };
        let deadline = Instant::now() + post.timeout;
        let headers = headers(credentials).ok_or(Fault::UnusableTarget)?;
        let answering = self.answer(asking, headers, form(credentials), &mut false).await;
        let (connection, head) = answering.map_err(|fault| match fault {
            Fault::Local | Fault::Proxy => fault,
            _ => Fault::Oauth(None),
        })?;
        let asked = Instant::now();
        let answer = self.read(asking, connection, head, deadline).await;
        granted(&answer, asked).ok_or(Fault::Oauth(Some(answer.status)))
    }
}

/// Client and secret go into the header, which every endpoint must take (RFC 6749, section 2.3.1).
fn headers(credentials: &Oauth2) -> Option<HeaderMap> {
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

fn form(credentials: &Oauth2) -> Bytes {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &credentials.scope {
        form.append_pair("scope", scope);
    }
    form.finish().into()
}

fn granted(answer: &Answer, asked: Instant) -> Option<Token> {
    let body = answer.body.as_deref().filter(|_| answer.status == 200)?;
    let granted: Granted = serde_json::from_slice(body).ok()?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {}", granted.access_token)).ok()?;
    header.set_sensitive(true);
    let serves = granted.expires_in.map_or(UNSAID, |seconds| Duration::from_secs(seconds.min(86_400)));
    Some(Token { header, until: asked + serves - EARLY.min(serves / 10) })
}
