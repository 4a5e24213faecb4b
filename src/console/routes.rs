//! The router, the checks of every request, and the handlers of read-only pages.

use std::sync::{Arc, PoisonError};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Path, RawQuery, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use maud::Markup;
use tracing::warn;

use super::{
    answers::{Shown, refuse, sentence},
    door::{self, Refused, Visitor},
    failed, log,
    pages::{self, Frame},
    query::Query,
    rejected,
    shared::{Peer, Shared},
};
use crate::{
    cli::explain::{Question, Service, answer},
    dead_letters::filter,
    delivery_log::Filter,
    event::EventKind,
    settings::Role,
};

/// Largest form in bytes. The ids of a page take a tenth of it.
const LARGEST_FORM: usize = 256 * 1024;

/// How far back a search looks by default.
const SEARCH: &str = "24h";

pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/search", get(search))
        .route("/deliveries/{id}", get(delivery))
        .route("/settings", get(settings))
        .route("/failed", get(failed::list))
        .route("/failed/preview", get(failed::preview))
        .route("/failed/replay", post(failed::replay))
        .route("/failed/discard", post(failed::discard))
        .route("/failed/{id}", get(failed::job))
        .route("/failed/{id}/reveal", post(failed::reveal))
        .route("/rejected", get(rejected::list))
        .route("/rejected/{id}", get(rejected::message))
        .route("/rejected/{id}/reveal", post(rejected::reveal))
        .route("/rejected/{id}/preview", post(rejected::preview))
        .route("/rejected/{id}/act", post(rejected::act))
        .route("/work/{number}", get(failed::work))
        .route("/style.css", get(async || asset("text/css; charset=utf-8", include_str!("assets/style.css"))))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("assets/live.js"))))
        .route("/icon.svg", get(async || asset("image/svg+xml", include_str!("assets/icon.svg"))))
        .fallback(missing)
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .layer(middleware::from_fn_with_state(shared.clone(), enter))
        .with_state(shared)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Checks every request: host, person, role, and the origin of a form. Then adds the headers of every answer.
async fn enter(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !shared.door.knows_host(headers) {
        return door::plain(StatusCode::MISDIRECTED_REQUEST, "this host name is not served; see console.hosts\n");
    }
    let Some(Peer(address)) = request.extensions().get::<Peer>().copied() else {
        return door::plain(StatusCode::INTERNAL_SERVER_ERROR, "the address of the request is not known\n");
    };
    let throttle = || shared.throttle.lock().unwrap_or_else(PoisonError::into_inner);
    if headers.contains_key(header::AUTHORIZATION)
        && let Err(wait) = throttle().may_try(address, &shared.door.claims(headers), std::time::Instant::now())
    {
        let mut response = door::plain(StatusCode::TOO_MANY_REQUESTS, "too many wrong secrets; wait, then try again\n");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        return response;
    }
    let visitor = match shared.door.visitor(headers) {
        Ok(visitor) => visitor,
        Err(refused) => {
            if let Refused::Wrong(name) = &refused {
                throttle().failed(address, name, std::time::Instant::now());
                warn!(%address, name, "console: a wrong secret");
            }
            let mut response =
                door::plain(StatusCode::UNAUTHORIZED, "sign in with a name and a secret of console.credentials\n");
            let challenge = HeaderValue::from_static("Basic realm=\"Leadhook\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && door::is_embedded(headers) {
        return door::plain(StatusCode::FORBIDDEN, "this request came from a foreign page\n");
    }
    if !reads && door::is_foreign(headers) {
        return door::plain(StatusCode::FORBIDDEN, "this form came from a foreign page\n");
    }
    if !reads && visitor.role != Role::Act {
        return door::plain(StatusCode::FORBIDDEN, "this needs the role act\n");
    }
    request.extensions_mut().insert(visitor);
    let mut response = next.run(request).await;
    let cached = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/css; charset=utf-8");
    door::add_headers(&mut response);
    if cached {
        // The style sheet has no data, and without the cache each page would wait for it.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    }
    response
}

async fn missing(State(shared): State<Arc<Shared>>, Extension(visitor): Extension<Visitor>) -> (StatusCode, Markup) {
    let frame = Frame::of(&shared, visitor);
    refuse(&frame, StatusCode::NOT_FOUND, "Page not found", "This address does not belong to a page.")
}

async fn overview(State(shared): State<Arc<Shared>>, Extension(visitor): Extension<Visitor>) -> Markup {
    let frame = Frame::of(&shared, visitor);
    pages::overview::page(&frame, &shared.watch.sight(), shared.letters.last_seen().as_deref())
}

async fn search(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Shown {
    use pages::search::Result as Found;
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(query.as_deref().unwrap_or_default()));
    let Some(id) = query.get("q").map(str::to_owned) else {
        return Ok(pages::search::page(&frame, &query, Found::Unasked));
    };
    let wrong = |status, why: String| Err((status, pages::search::page(&frame, &query, Found::Wrong(why))));
    let since = match filter::time(query.get("since").unwrap_or(SEARCH), frame.now) {
        Ok(since) => since,
        Err(why) => return wrong(StatusCode::BAD_REQUEST, format!("since: {why}")),
    };
    let event = query.get("event").and_then(EventKind::parse);
    let mut wanted = Filter { event, since: Some(since), ..Filter::default() };
    match query.get("by").unwrap_or("lead") {
        "lead" => wanted.lead = Some(id),
        "submission" => wanted.submission = Some(id),
        "campaign" => wanted.campaign = Some(id),
        _ => return wrong(StatusCode::BAD_REQUEST, "by: expected lead, submission or campaign".to_owned()),
    }
    match log::search(&shared.access, &wanted).await {
        Ok(answer) => Ok(pages::search::page(&frame, &query, Found::Found(&answer, since))),
        Err(trouble) => wrong(StatusCode::SERVICE_UNAVAILABLE, trouble.words()),
    }
}

async fn delivery(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Shown {
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(query.as_deref().unwrap_or_default()));
    let since = match query.get("since") {
        None => None,
        Some("all") => Some(Timestamp::UNIX_EPOCH),
        Some(text) => match filter::time(text, frame.now) {
            Ok(since) => Some(since),
            Err(why) => {
                return Err(refuse(&frame, StatusCode::BAD_REQUEST, "Invalid address", &format!("since: {why}")));
            }
        },
    };
    match log::story(&shared.access, &shared.stories, &id, since).await {
        Ok(story) => Ok(pages::delivery::page(&frame, &id, &story)),
        Err(trouble) => {
            Err(refuse(&frame, StatusCode::SERVICE_UNAVAILABLE, "No answer from the delivery log", &trouble.words()))
        }
    }
}

async fn settings(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Shown {
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(query.as_deref().unwrap_or_default()));
    let Some(campaign) = query.get("campaign") else {
        return Ok(pages::settings::page(&frame, &query, None, &[]));
    };
    match shared.store().await {
        Ok(store) => {
            let question = Question { campaign, organization: query.get("organization"), event: None };
            let answer = answer(&store.current(), &Service::of(&shared.access.settings), question);
            Ok(pages::settings::page(&frame, &query, Some(&answer), &[]))
        }
        Err(problems) => {
            let problems: Vec<_> = problems.iter().take(10).map(ToString::to_string).collect();
            warn!(problems = problems.len(), "console: the webhook store cannot be used");
            Err((StatusCode::SERVICE_UNAVAILABLE, pages::settings::page(&frame, &query, None, &problems)))
        }
    }
}

impl log::Trouble {
    /// Returns the message for a page.
    pub fn words(&self) -> String {
        match self {
            log::Trouble::Busy => "Others are reading the delivery log now. Try again in a moment.".to_owned(),
            log::Trouble::Slow => "The broker does not answer. Look at the broker, or try again.".to_owned(),
            log::Trouble::Log(error) => sentence(&error.to_string(), error.help()),
        }
    }
}
