//! Odd answers: the status counts, and whatever is not HTTP has a name.

use super::*;

#[tokio::test]
async fn what_comes_in_place_of_an_answer_has_a_name() {
    let huge = format!("HTTP/1.1 200 {}", "x".repeat(2 * HEADER_LIMIT));
    let answers = [
        ("", HttpFault::Closed),
        ("HT", HttpFault::Closed),
        ("HTTP/1.1 200", HttpFault::Closed),
        ("HTTP/1.1 100 Continue\r\n\r\n", HttpFault::Closed),
        ("\r\nHTTP/1.1 20", HttpFault::Closed),
        ("SSH-2.0-OpenSSH_9.6\r\n", HttpFault::NotHttp),
        ("220 mail.example ESMTP\r\n", HttpFault::NotHttp),
        ("<html>hello</html>", HttpFault::NotHttp),
        ("HTTP/1.1 OK\r\n\r\n", HttpFault::Malformed),
        ("HTTP/1.1 20 OK\r\n\r\n", HttpFault::Malformed),
        ("HTTP/1.1 2000 OK\r\n\r\n", HttpFault::Malformed),
        ("HTTP/1.1 600 OK\r\nContent-Length: many\r\n\r\n", HttpFault::Malformed),
        (&huge, HttpFault::HeaderTooLarge),
    ];
    for (answer, fault) in answers {
        let address = canned(answer).await;
        assert_eq!(fault_of(&format!("http://{address}/")).await, Fault::Http(fault), "{answer:.60?}");
    }
    let receiver = receiver("close").await;
    assert_eq!(fault_of(&receiver.url()).await, Fault::Http(HttpFault::Closed));
}

/// The status line decides: the rest of the answer cannot turn an accepted lead into a failed one.
#[tokio::test]
async fn a_status_counts_whatever_becomes_of_the_body() {
    let bodies = [
        ("Content-Length: 10\r\n\r\nhalf", true),
        ("Content-Length: 10\r\n\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf", true),
        ("Transfer-Encoding: chunked\r\n\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n", true),
        ("Content-Length: 2\r\n\r\nok and more", false),
        ("\r\nuntil the end", false),
        ("Content-Length: 0\r\n\r\n", false),
    ];
    for status in [200, 204, 410, 500] {
        for (body, incomplete) in bodies {
            let address = canned(format!("HTTP/1.1 {status} Word\r\n{body}")).await;
            let answer = answer_of(post(&format!("http://{address}/")).await);
            // A 204 has no body (RFC 9110, section 15.3.5).
            let expected = (status, incomplete && status != 204);
            assert_eq!((answer.status, answer.incomplete), expected, "{status} {body:?}");
        }
    }
}

/// hyper returns no status for these heads, nor for heads that are cut.
#[tokio::test]
async fn a_status_counts_whatever_becomes_of_the_headers() {
    let (many, huge) = ("X: y\r\n".repeat(2000), format!("X: {}\r\n\r\n", "x".repeat(2 * HEADER_LIMIT)));
    let rests = [
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        "Content-Length: many\r\n\r\nok",
        "X: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "",
        "X: y\r\n",
        "X: y\r\nContent-Len",
        &many,
        &huge,
    ];
    for status in [200, 410, 500] {
        for rest in rests {
            for before in ["", "\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 100 Continue\n\n"] {
                let address = canned(format!("{before}HTTP/1.1 {status} Word\r\n{rest}")).await;
                let answer = answer_of(post(&format!("http://{address}/")).await);
                assert_eq!((answer.status, answer.incomplete), (status, true), "{before:?} {rest:.60?}");
            }
        }
    }
}

/// The head does not end by the deadline.
#[tokio::test]
async fn a_status_counts_where_the_headers_never_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: y").await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    let exchange = post_within(&url, Duration::from_millis(500)).await;
    let answer = answer_of(exchange);
    assert_eq!((answer.status, answer.incomplete), (200, true));
}

/// A server that speaks first does not speak HTTP.
#[tokio::test]
async fn a_banner_is_not_http() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            });
        }
    });
    for _ in 0..20 {
        assert_eq!(fault_of(&url).await, Fault::Http(HttpFault::NotHttp));
    }
}

/// An answer counts even if it comes before the whole request was sent.
#[tokio::test]
async fn an_early_answer_to_a_large_request_counts() {
    let address = canned("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    let url = format!("http://{address}/").parse().unwrap();
    for _ in 0..5 {
        let exchange = sender().post(to("acme", &url, LONG), HeaderMap::new(), Bytes::from(vec![b'x'; 1 << 20])).await;
        assert_eq!(answer_of(exchange).status, 200);
    }
}

/// After the status the body has two seconds, or the rest of the timeout if that is less.
#[tokio::test]
async fn a_body_that_drips_does_not_outlast_its_patience() {
    let receiver = receiver("drip").await;
    for (timeout, least) in [(LONG, BODY_PATIENCE), (Duration::from_secs(1), Duration::from_secs(1))] {
        let exchange = post_within(&receiver.url(), timeout).await;
        assert!(exchange.elapsed >= least && exchange.elapsed < LONG, "{:?}", exchange.elapsed);
        let answer = answer_of(exchange);
        assert_eq!((answer.status, answer.incomplete), (200, true));
    }
}

/// Browsers read them in the same way.
#[tokio::test]
async fn heads_are_read_leniently() {
    let many = format!("{}Content-Length: 0\r\n", "X: y\r\n".repeat(90));
    let heads = [
        "<br />\nWarning: Undefined variable $x in /srv/www/hook.php on line 3\r\nContent-Length: 0\r\n",
        "Content-Length : 0\r\n",
        "X-Folded: one\r\n two\r\n\tthree\r\nContent-Length: 0\r\n",
        "X-Bytes: caf\u{e9} \u{1f600}\r\nContent-Length: 0\r\n",
        "no colon at all\r\nContent-Length: 0\r\n",
        ": no name\r\nContent-Length: 0\r\n",
        "X Y: blank in a name\r\nContent-Length: 0\r\n",
        "Content-Length: 0\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        &many,
    ];
    for head in heads {
        // The lines after the odd line are read.
        let address = canned(format!("HTTP/1.1 503 Busy\r\n{head}Retry-After: 7\r\n\r\n")).await;
        let answer = answer_of(post(&format!("http://{address}/")).await);
        assert_eq!((answer.retry_after.as_deref(), answer.incomplete), (Some("7"), false), "{head:.60?}");
    }
    // The odd line itself is read too, if that is possible.
    for line in ["Retry-After : 7", "Retry-After\t: 7", "Retry-After: \r\n 7"] {
        let address = canned(format!("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n{line}\r\n\r\n")).await;
        let answer = answer_of(post(&format!("http://{address}/")).await);
        assert_eq!(answer.retry_after.as_deref().map(str::trim), Some("7"), "{line:?}");
    }
    for line in ["HTTP/1.1 200\r\n", "HTTP/1.1 200 \r\n", "HTTP/1.0 200 OK\r\n", "\r\nHTTP/1.1 200 OK\r\n"] {
        let address = canned(format!("{line}Content-Length: 0\r\n\r\n")).await;
        let answer = answer_of(post(&format!("http://{address}/")).await);
        assert_eq!((answer.status, answer.incomplete), (200, false), "{line:?}");
    }
}

/// In HTTP the case of header names has no meaning, but old receivers compare them by case.
#[tokio::test]
async fn header_names_go_out_in_title_case() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url: Url = format!("http://{}/hook?a=b", listener.local_addr().unwrap()).parse().unwrap();
    let headers =
        HeaderMap::from_iter([(http::HeaderName::from_static("webhook-id"), HeaderValue::from_static("wh_1"))]);
    let authority = url[Position::BeforeHost..Position::AfterPort].to_owned();
    let sender = sender();
    let posting =
        tokio::spawn(async move { sender.post(to("acme", &url, LONG), headers, Bytes::from_static(b"{}")).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        stream.read_buf(&mut request).await.unwrap();
    }
    posting.abort();
    let request = String::from_utf8(request).unwrap();
    assert!(request.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{request}");
    for line in ["Webhook-Id: wh_1", "Accept: */*", "Content-Length: 2", &format!("Host: {authority}")] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} in {request}");
    }
}
