use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Answers with the path. `/slow` waits for `go_on`, and `/large` answers with 32 MiB.
struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    go_on: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, go_on) = (CancellationToken::new(), CancellationToken::new());
        let told = go_on.clone();
        let answer = move |_, request: Request| {
            let told = told.clone();
            async move {
                match request.uri().path() {
                    "/slow" => told.cancelled().await,
                    "/large" => return vec![b'x'; 32 << 20].into_response(),
                    _ => {}
                }
                request.uri().path().to_owned().into_response()
            }
        };
        let task = tokio::spawn(serve(listener, limits, shutdown.clone(), answer));
        Server { address, shutdown, go_on, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Makes a request on its own connection and returns the whole answer, or nothing if the connection closes without
    /// one.
    async fn ask(&self, path: &str) -> String {
        String::from_utf8(closed(&mut self.send(path).await).await).unwrap()
    }

    async fn send(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n").as_bytes()).await;
        stream
    }
}

/// Waits until the server has closed the stream, and returns the bytes that came before.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_no_request_out() {
    let server = Server::start(Limits::of(8)).await;
    let mut first = server.connect().await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        idle.push(server.connect().await);
        if n % 100 == 0 {
            assert!(server.ask("/here").await.ends_with("\r\n\r\n/here"));
        }
    }
    // The first connections have given way.
    assert_eq!(closed(&mut first).await, b"");
    assert_eq!(closed(&mut idle[990]).await, b"");
    // The last one still has its place.
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /last HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(closed(last).await.ends_with(b"/last"));
}

#[tokio::test]
async fn requests_in_progress_do_not_give_way() {
    let server = Server::start(Limits::of(2)).await;
    let mut slow = [server.send("/slow").await, server.send("/slow").await];
    // Both are being answered once a third one is not admitted.
    while !server.ask("/third").await.is_empty() {}
    server.go_on.cancel();
    for slow in &mut slow {
        assert!(closed(slow).await.ends_with(b"/slow"));
    }
    assert!(server.ask("/third").await.ends_with("/third"));
}

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_head_that_comes_slowly_or_without_end_is_cut_off() {
    let server = Server::start(Limits { head: SHORT, ..Limits::of(8) }).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    closed(&mut slow).await;

    let server = Server::start(Limits::of(8)).await;
    let mut endless = server.connect().await;
    let mut sent = 0;
    endless.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    while endless.write_all(format!("x: {}\r\n", "y".repeat(1000)).as_bytes()).await.is_ok() {
        sent += 1000;
        assert!(sent < 64 << 20, "the server accepts an endless head");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() {
    let server = Server::start(Limits { request: SHORT, ..Limits::of(8) }).await;
    let answer = server.ask("/slow").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("this took too long; try again\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let server = Server::start(Limits { unused: SHORT, ..Limits::of(8) }).await;
    let mut stream = server.send("/large").await;
    // The client does not read the answer. The server does not read these bytes either, until it resets the connection.
    while stream.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
    assert!(closed(&mut stream).await.len() < 32 << 20);
}

#[tokio::test]
async fn a_stop_waits_for_answers_and_not_for_idle_clients() {
    let server = Server::start(Limits::of(8)).await;
    let mut slow = server.send("/slow").await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HT").await.unwrap();
    assert!(server.ask("/").await.ends_with('/'));
    server.shutdown.cancel();
    closed(&mut idle).await;
    assert!(!server.task.is_finished());
    server.go_on.cancel();
    assert!(closed(&mut slow).await.ends_with(b"/slow"));
    server.task.await.unwrap();
}
