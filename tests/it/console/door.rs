//! Access to the console.

use reqwest::{Method, StatusCode};

use super::{ACT, READ, command, console, started};
use crate::{
    dead_letters::{fail, job, quiet_world},
    harness::World,
};

/// All pages that read.
pub const PAGES: [&str; 7] =
    ["/", "/search", "/search?q=lead_1", "/failed", "/settings", "/settings?campaign=ABC", "/deliveries/wh_x"];

#[tokio::test]
async fn nobody_comes_in_without_credentials_and_every_answer_is_closed() {
    let world = quiet_world().await;
    let console = console(&world, &[]).await;
    for path in PAGES.iter().chain(&["/style.css", "/live.js", "/nowhere", "/failed/preview"]) {
        for (who, expected) in [("", false), ("anna:a-read-secret-0002", false), (READ, true), (ACT, true)] {
            // Ten wrong secrets would lock the name out.
            if !who.is_empty() && !expected && !PAGES.contains(path) {
                continue;
            }
            let answer = console.get(who, path).await;
            let status = answer.status();
            assert_eq!(status != StatusCode::UNAUTHORIZED, expected, "{who} {path} {status}");
            let headers = answer.headers();
            assert_eq!(headers["x-frame-options"], "DENY");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            // With "no-referrer" a browser sends no origin with our own forms, and they would be refused.
            assert_eq!(headers["referrer-policy"], "same-origin");
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            if path != &"/style.css" || !expected {
                assert_eq!(headers["cache-control"], "no-store", "{path}");
            }
            assert_eq!(headers.contains_key("www-authenticate"), !expected);
        }
    }
    let bearer = console.ask("", Method::GET, "/").bearer_auth("a-read-secret-0002").send().await.unwrap();
    assert_eq!(bearer.status(), StatusCode::OK);
    let log = console.process.log();
    assert!(!log.contains("-secret-000"), "{log}");
}

#[tokio::test]
async fn wrong_secrets_are_rate_limited_and_nobody_else_is_locked_out() {
    let world = World::new().await;
    let console = console(&world, &[]).await;
    for n in 0..10 {
        let answer = console.get(&format!("anna:wrong{n}"), "/").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    for who in ["anna:wrong", ACT] {
        let answer = console.get(who, "/").await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{who}");
        assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() <= 7);
    }
    assert_eq!(console.get(READ, "/").await.status(), StatusCode::OK);
    assert!(console.process.log().contains("a wrong secret"));
}

#[tokio::test]
async fn a_page_elsewhere_cannot_make_it_look() {
    let world = quiet_world().await;
    let console = console(&world, &[]).await;
    let ask = async |mode: &str| {
        let asked = console.ask(READ, Method::GET, "/failed").header("sec-fetch-site", "cross-site");
        asked.header("sec-fetch-mode", mode).send().await.unwrap().status()
    };
    assert_eq!(ask("no-cors").await, StatusCode::FORBIDDEN);
    assert_eq!(ask("navigate").await, StatusCode::OK, "a link from another page is refused");
}

#[tokio::test]
async fn forms_from_elsewhere_and_of_readers_do_nothing() {
    let world = quiet_world().await;
    let ids = fail(&world, [1, 2].map(job)).await;
    let console = console(&world, &[]).await;
    let token = console.token(&ids[0]).await;
    let (reveal, id) = (format!("/failed/{}/reveal", ids[0]), ids[0].as_str());
    let paths = ["/failed/replay", "/failed/discard", reveal.as_str()];
    for path in paths {
        let form = [("token", token.as_str()), ("which", "chosen"), ("id", id), ("agreed", "1"), ("because", "x")];
        assert_eq!(console.post(READ, path, &form).await.status(), StatusCode::FORBIDDEN, "a reader, {path}");
        for wrong in ["", "AAAA", &token[1..]] {
            let form = [("token", wrong), ("which", "chosen"), ("id", id), ("agreed", "1"), ("because", "x")];
            assert_eq!(console.post(ACT, path, &form).await.status(), StatusCode::FORBIDDEN, "{wrong}, {path}");
        }
        for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            let body = format!("token={token}&which=chosen&id={id}&agreed=1&because=x");
            let request = console.ask(ACT, Method::POST, path).header(name, value).body(body);
            let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}: {value}, {path}");
        }
        let got = console.get(ACT, path).await.status();
        assert!(got == StatusCode::METHOD_NOT_ALLOWED || got == StatusCode::NOT_FOUND, "GET {path}: {got}");
    }
    let preview = console.get(READ, &format!("/failed/preview?which=chosen&id={id}")).await;
    assert_eq!(preview.status(), StatusCode::FORBIDDEN);
    let large = console.post(ACT, "/failed/replay", &[("token", &"x".repeat(300_000))]).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!((world.ready("failed").await, world.ready("jobs").await), (2, 0));
    assert!(!console.process.log().contains("the data of a lead was shown"));
}

#[tokio::test]
async fn names_that_are_not_of_this_machine_are_refused_unless_listed() {
    let world = World::new().await;
    let console = console(&world, &[("LEADHOOK__CONSOLE__HOSTS", "console.example")]).await;
    for (host, known) in [("evil.example", false), ("console.example", true), ("localhost", true)] {
        let answer = console.ask(ACT, Method::GET, "/").header("host", host).send().await.unwrap();
        assert_eq!(answer.status() == StatusCode::OK, known, "{host}");
        assert!(known || answer.status() == StatusCode::MISDIRECTED_REQUEST);
    }
}

#[tokio::test]
async fn without_credentials_it_stays_on_this_machine_and_only_reads() {
    let world = quiet_world().await;
    let mut beyond = command(&world);
    beyond.env("LEADHOOK__CONSOLE__LISTEN", "0.0.0.0:0").stderr(std::process::Stdio::piped());
    let output = beyond.output().expect("leadhook");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("console.credentials"));

    let ids = fail(&world, [job(1)]).await;
    let console = started(&world, command(&world)).await;
    let page = console.page("", &format!("/failed/{}", ids[0])).await;
    assert!(!page.contains("method=\"post\""));
    let answer = console.post("", &format!("/failed/{}/reveal", ids[0]), &[]).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let rebound = console.ask("", Method::GET, "/").header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn nobody_takes_all_connections_before_saying_who_they_are() {
    let world = World::new().await;
    let console = console(&world, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..250 {
        silent.push(tokio::net::TcpStream::connect(&console.address).await.expect("a connection"));
    }
    // Uses another address of this machine.
    let other = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let asked = other.get(format!("http://{}/settings", console.address)).basic_auth("ben", Some("a-read-secret-0002"));
    assert_eq!(asked.send().await.expect("an answer").status(), StatusCode::OK);
    // Silent connections are closed, which makes room.
    crate::harness::eventually("there is room again", async || {
        console.ask(READ, Method::GET, "/settings").send().await.ok().filter(|answer| answer.status() == StatusCode::OK)
    })
    .await;
    drop(silent);
}
