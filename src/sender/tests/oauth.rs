//! Tokens are fetched once, used until they expire, and never shown.

use std::sync::{Arc, Mutex};

use super::*;
use crate::delivery::fault::TokenFault;

/// A server for requests with a body. A function answers each: it gets the whole request and the number of those
/// before.
struct Server {
    url: Url,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap()).parse().unwrap();
        let (requests, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let noting = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (noting, answer) = (noting.clone(), answer.clone());
                tokio::spawn(async move {
                    loop {
                        let mut request = Vec::new();
                        while !is_whole(&request) {
                            if stream.read_buf(&mut request).await? == 0 {
                                return io::Result::Ok(());
                            }
                        }
                        let request = String::from_utf8(request).unwrap();
                        let nth = {
                            let mut requests: std::sync::MutexGuard<'_, Vec<String>> = noting.lock().unwrap();
                            requests.push(request.clone());
                            requests.len() - 1
                        };
                        stream.write_all(answer(&request, nth).as_bytes()).await?;
                    }
                });
            }
        });
        Server { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn credentials(&self) -> Arc<Oauth2> {
        Arc::new(Oauth2::new(self.url.clone(), "our id", "s3cr%t:+", Some("leads.write leads.read")))
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn granting(nth: usize) -> String {
    answer("200 OK", &format!("{{\"access_token\":\"token-{nth}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}"))
}

/// Returns the token in a request.
fn token_of(request: &str) -> &str {
    request.lines().find_map(|line| line.strip_prefix("Authorization: Bearer ")).unwrap_or("none")
}

async fn endpoint() -> Server {
    Server::start(|_, nth| granting(nth)).await
}

async fn taking_all() -> Server {
    Server::start(|_, _| answer("200 OK", "{}")).await
}

async fn attempt(
    sender: &Sender,
    organization: &str,
    receiver: &Server,
    credentials: &Arc<Oauth2>,
) -> Result<u16, Fault> {
    let post = Post { oauth2: Some(credentials), ..to(organization, &receiver.url, Duration::from_secs(5)) };
    let exchange = sender.post(post, HeaderMap::new(), Bytes::from_static(b"{}")).await;
    exchange.result.map(|answer| answer.status)
}

#[tokio::test]
async fn concurrent_attempts_fetch_one_token_and_later_ones_use_it() {
    let (endpoint, receiver, sender) = (endpoint().await, taking_all().await, sender());
    let credentials = endpoint.credentials();
    let attempts = (0..20).map(|_| attempt(&sender, "acme", &receiver, &credentials));
    assert!(futures::future::join_all(attempts).await.into_iter().all(|result| result == Ok(200)));
    assert_eq!(attempt(&sender, "acme", &receiver, &credentials).await, Ok(200));
    let asked = endpoint.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("POST /token HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].ends_with("\r\n\r\ngrant_type=client_credentials&scope=leads.write+leads.read"), "{}", asked[0]);
    // our+id:s3cr%25t%3A%2B: both are form-encoded first (RFC 6749, section 2.3.1).
    assert!(asked[0].contains("Authorization: Basic b3VyK2lkOnMzY3IlMjV0JTNBJTJC\r\n"), "{}", asked[0]);
    assert!(receiver.requests().iter().all(|request| token_of(request) == "token-0"));
}

#[tokio::test]
async fn a_token_that_has_expired_is_fetched_anew() {
    let expired = |nth| format!("{{\"access_token\":\"token-{nth}\",\"token_type\":\"bearer\",\"expires_in\":0}}");
    let endpoint = Server::start(move |_, nth| answer("200 OK", &expired(nth))).await;
    let (receiver, sender, credentials) = (taking_all().await, sender(), endpoint.credentials());
    for nth in 0..3 {
        assert_eq!(attempt(&sender, "acme", &receiver, &credentials).await, Ok(200));
        assert_eq!(token_of(&receiver.requests()[nth]), format!("token-{nth}"));
    }
}

#[tokio::test]
async fn a_token_that_the_receiver_refuses_is_dropped_and_no_newer_one() {
    let (endpoint, sender) = (endpoint().await, sender());
    let receiver = Server::start(|request, _| match token_of(request) {
        "token-0" => answer("401 Unauthorized", ""),
        _ => answer("200 OK", ""),
    })
    .await;
    let credentials = endpoint.credentials();
    assert_eq!(attempt(&sender, "acme", &receiver, &credentials).await, Ok(401));
    assert_eq!(attempt(&sender, "acme", &receiver, &credentials).await, Ok(200));
    // A late 401 for the first token says nothing about the second.
    let old = HeaderValue::from_static("Bearer token-0");
    sender.0.tokens.refused("acme", &credentials, &old);
    assert_eq!(attempt(&sender, "acme", &receiver, &credentials).await, Ok(200));
    assert_eq!(endpoint.requests().len(), 2);
}

#[tokio::test]
async fn tokens_are_not_shared_between_organizations_or_credentials() {
    let (endpoint, receiver, sender) = (endpoint().await, taking_all().await, sender());
    let other = Arc::new(Oauth2::new(endpoint.url.clone(), "another", "s3cr%t:+", None));
    for (organization, credentials) in
        [("acme", &endpoint.credentials()), ("globex", &endpoint.credentials()), ("acme", &other)]
    {
        assert_eq!(attempt(&sender, organization, &receiver, credentials).await, Ok(200));
    }
    let tokens: Vec<_> = receiver.requests().iter().map(|request| token_of(request).to_owned()).collect();
    assert_eq!(tokens, ["token-0", "token-1", "token-2"]);
}

#[tokio::test]
async fn an_endpoint_that_gives_no_token_is_a_fault_of_its_own() {
    let answers = [
        (answer("500 Oops", ""), TokenFault::Answered(500)),
        (answer("401 Unauthorized", "{\"error\":\"invalid_client\"}"), TokenFault::Answered(401)),
        (answer("302 Found\r\nLocation: https://login.example/", ""), TokenFault::Answered(302)),
        (answer("200 OK", "<html>log in</html>"), TokenFault::Answered(200)),
        (answer("200 OK", "{\"token_type\":\"Bearer\"}"), TokenFault::Answered(200)),
        (answer("200 OK", "[]"), TokenFault::Answered(200)),
        (answer("200 OK", "{\"access_token\":\"a\",\"token_type\":\"mac\"}"), TokenFault::Answered(200)),
        (answer("200 OK", "{\"access_token\":\"a\\nb\",\"token_type\":\"Bearer\"}"), TokenFault::Answered(200)),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), TokenFault::Failed("not_http")),
    ];
    let (receiver, sender) = (taking_all().await, sender());
    for (said, fault) in answers {
        let endpoint = Server::start(move |_, _| said.clone()).await;
        // Attempts that come within a second share the failure.
        for _ in 0..3 {
            let result = attempt(&sender, "acme", &receiver, &endpoint.credentials()).await;
            assert_eq!(result, Err(Fault::Oauth(fault)));
        }
        assert_eq!(endpoint.requests().len(), 1);
    }
    assert_eq!(receiver.requests().len(), 0, "an attempt was made without a token");
}

#[tokio::test]
async fn a_slow_endpoint_costs_no_more_than_the_timeout() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url: Url = format!("http://{}/", silent.local_addr().unwrap()).parse().unwrap();
    let credentials = Arc::new(Oauth2::new(url, "id", "secret", None));
    let (receiver, sender) = (taking_all().await, sender());
    let timeout = Duration::from_millis(300);
    let attempts = (0..3).map(async |_| {
        let post = Post { oauth2: Some(&credentials), ..to("acme", &receiver.url, timeout) };
        sender.post(post, HeaderMap::new(), Bytes::new()).await
    });
    for exchange in futures::future::join_all(attempts).await {
        assert_eq!(exchange.result, Err(Fault::Oauth(TokenFault::Failed("timeout"))));
        assert!(exchange.elapsed < timeout + LONG / 4, "{:?}", exchange.elapsed);
    }
}

/// The endpoint is called under the same rules as the receiver.
#[tokio::test]
async fn the_guard_holds_for_token_endpoints() {
    let endpoint = endpoint().await;
    let receiver = taking_all().await;
    let egress = Egress { allow: vec!["127.0.0.2".parse().unwrap()], plain_http: true, ..Egress::default() };
    let sender = Sender::new(&egress, &Tls::default()).unwrap();
    let result = attempt(&sender, "acme", &receiver, &endpoint.credentials()).await;
    assert_eq!(result, Err(Fault::Oauth(TokenFault::Failed("forbidden_address"))));
    assert_eq!(endpoint.requests().len(), 0);
}

/// An endpoint that takes longer than the attempts gives its token to later ones.
#[tokio::test]
async fn a_token_is_fetched_to_its_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (go, may_go) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        may_go.await.unwrap();
        stream.write_all(granting(0).as_bytes()).await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    let credentials = Arc::new(Oauth2::new(url, "id", "secret", None));
    let (receiver, sender) = (taking_all().await, sender());
    let post = Post { oauth2: Some(&credentials), ..to("acme", &receiver.url, Duration::from_millis(200)) };
    let exchange = sender.post(post, HeaderMap::new(), Bytes::new()).await;
    assert_eq!(exchange.result, Err(Fault::Oauth(TokenFault::Failed("timeout"))));
    go.send(()).unwrap();
    assert_eq!(attempt(&sender, "acme", &receiver, &credentials).await, Ok(200));
    assert_eq!(token_of(&receiver.requests()[0]), "token-0");
}

/// Real endpoints answer like this.
#[tokio::test]
async fn tokens_are_read_leniently() {
    let receiver = taking_all().await;
    for rest in [
        r#","token_type":"bearer","expires_in":"3599","scope":"x""#,
        r#","token_type":"BEARER","expires_in":3599.5"#,
        r#","expires_in":3599"#,
        r#","token_type":"Bearer""#,
        r#","token_type":"Bearer","expires_in":null"#,
        r#","token_type":"Bearer","expires_in":1e300"#,
    ] {
        let body = format!("{{\"access_token\":\"token-0\"{rest}}}");
        let endpoint = Server::start(move |_, _| answer("200 OK", &body)).await;
        let sender = sender();
        for _ in 0..2 {
            assert_eq!(attempt(&sender, "acme", &receiver, &endpoint.credentials()).await, Ok(200), "{rest}");
        }
        assert_eq!(endpoint.requests().len(), 1, "{rest}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    let credentials = Oauth2::new("https://login.example/t".parse().unwrap(), "id", "s3cr3t", None);
    assert!(!format!("{credentials:?}").contains("s3cr3t"));
}
