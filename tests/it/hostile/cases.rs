//! The bad answers, and how each delivery must end.

use std::time::Duration;

/// One receiver, which gets one event.
pub struct Case {
    pub name: &'static str,
    pub acts: Vec<Act>,
    pub end: End,
}

/// The actions of a receiver on successive connections. After the last one it says that it has no more, and keeps
/// reading.
#[derive(Clone)]
pub enum Act {
    /// Reads the whole request.
    Read,
    /// Waits until the request arrives, and leaves it unread.
    Peek,
    Say(Vec<u8>),
    /// Sends one byte at a time.
    Spell(Vec<u8>),
    Pause(Duration),
    /// Sends the same bytes repeatedly.
    Repeat(Vec<u8>),
    /// Sends nothing more, and reads until the connection is closed.
    Hang,
    /// Closes the connection. If bytes are unread, the client sees a reset.
    Close,
    Reset,
}

/// The expected result.
#[derive(Clone, Copy)]
pub enum End {
    /// Delivered by one POST.
    Delivered,
    /// Two attempts, each of which ends with one of these reasons. An endless answer breaks a limit, or on a busy
    /// machine meets the timeout first.
    Failed(&'static [&'static str]),
}

pub const OK: &str = "HTTP/1.1 200 OK\r\n";

fn case(name: &'static str, acts: impl IntoIterator<Item = Act>, end: End) -> Case {
    Case { name, acts: acts.into_iter().collect(), end }
}

pub fn say(bytes: impl AsRef<[u8]>) -> Act {
    Act::Say(bytes.as_ref().to_vec())
}

fn repeat(bytes: impl AsRef<[u8]>) -> Act {
    Act::Repeat(bytes.as_ref().to_vec())
}

/// Returns answers with 2xx and something wrong.
pub fn accepting() -> Vec<Case> {
    let accepts = |name, acts: Vec<Act>| case(name, [Act::Read].into_iter().chain(acts), End::Delivered);
    let all = |name, answer: &[u8]| accepts(name, vec![say(answer)]);
    let lines = |name, lines: &str| all(name, format!("{OK}{lines}Content-Length: 2\r\n\r\nok").as_bytes());
    let body = |name, rest: &str| all(name, format!("{OK}{rest}").as_bytes());
    let chunked = |name, rest: &str| all(name, format!("{OK}Transfer-Encoding: chunked\r\n\r\n{rest}").as_bytes());
    let endless = |name, rest: &str, again: &str| accepts(name, vec![say(format!("{OK}{rest}")), repeat(again)]);
    let long = "x".repeat(8000);
    let mut cases = vec![
        // Heads.
        lines("php-warning", "<br />\n<b>Warning</b>: Undefined variable $x in /srv/hook.php on line 3<br />\r\n"),
        body("blank-before-colon", "Content-Length : 2\r\n\r\nok"),
        lines("folded-line", "X-Folded: one\r\n two\r\n\tthree\r\n"),
        lines("101-headers", &"X: y\r\n".repeat(101)),
        lines("2000-headers", &"X: y\r\n".repeat(2000)),
        all("not-utf-8", &[OK.as_bytes(), b"X: caf\xe9 \xff\xfe\r\nContent-Length: 2\r\n\r\nok"].concat()),
        lines("control-characters", "X: \u{1}\u{7}\u{1b}[31m\u{7f}\r\n"),
        lines("no-colon", "this line has no colon\r\n"),
        lines("empty-name", ": no name\r\n"),
        lines("blank-in-name", "X Y: blank\r\n"),
        all("bare-line-feeds", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        all("no-reason-phrase", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"),
        all("empty-reason-phrase", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
        all("reason-phrase-in-latin-1", b"HTTP/1.1 201 Cr\xe9\xe9\r\nContent-Length: 2\r\n\r\nok"),
        all("http-1.0", b"HTTP/1.0 200 OK\r\n\r\nok"),
        all("blank-line-in-front", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        all("continue-first", format!("HTTP/1.1 100 Continue\r\n\r\n{OK}Content-Length: 2\r\n\r\nok").as_bytes()),
        all(
            "hints-first",
            format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{OK}Content-Length: 0\r\n\r\n").as_bytes(),
        ),
        lines("same-length-twice", "Content-Length: 2\r\n"),
        lines("upgrade-offered", "Upgrade: h2c\r\nConnection: Upgrade\r\n"),
        // Bodies.
        body("too-short", "Content-Length: 10\r\n\r\nhalf"),
        body("too-long", "Content-Length: 2\r\n\r\nok and more"),
        body("length-and-nothing", "Content-Length: 10\r\n\r\n"),
        accepts("length-and-silence", vec![say(format!("{OK}Content-Length: 10\r\n\r\n")), Act::Hang]),
        accepts("reset-in-the-body", vec![say(format!("{OK}Content-Length: 10\r\n\r\nhalf")), Act::Reset]),
        endless("drip", "Content-Length: 9999\r\n\r\n", "x"),
        endless("endless-body", "\r\n", &long),
        // The head of a gzip stream, and then bytes that unpack to a thousand times as many zeros.
        endless("gzip-bomb", "Content-Encoding: gzip\r\n\r\n\u{1f}", &"\0".repeat(8192)),
        all("204-with-a-body", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"),
        all("205-with-a-body", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok"),
        // Framing.
        chunked("bad-chunk-size", "zz\r\nok\r\n0\r\n\r\n"),
        chunked("cut-chunk", "4\r\nhalf"),
        chunked("chunks-without-an-end", "2\r\nok\r\n"),
        endless("chunk-of-exabytes", "Transfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n", &long),
        chunked("chunk-beyond-64-bits", "ffffffffffffffffffff\r\n"),
        endless("endless-chunk-extension", "Transfer-Encoding: chunked\r\n\r\n1;", &long),
        endless("trailers-for-ever", "Transfer-Encoding: chunked\r\n\r\n0\r\n", &format!("X: {long}\r\n")),
        body("length-and-chunked", "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        body("unknown-transfer-encoding", "Transfer-Encoding: sealed\r\n\r\nok"),
        // Timing.
        accepts("byte-by-byte", vec![Act::Spell(format!("{OK}Content-Length: 0\r\n\r\n").into())]),
        accepts(
            "head-in-two-halves",
            vec![say("HTTP/1.1 20"), Act::Pause(Duration::from_millis(500)), say("0 OK\r\nContent-Length: 0\r\n\r\n")],
        ),
        accepts("reset-after-the-answer", vec![say(format!("{OK}Content-Length: 2\r\n\r\nok")), Act::Reset]),
    ];
    let unread = |name, acts: &[Act]| {
        let answer = [Act::Peek, say(format!("{OK}Content-Length: 0\r\n\r\n"))];
        case(name, answer.into_iter().chain(acts.iter().cloned()), End::Delivered)
    };
    // Heads for which hyper gives no status.
    cases.extend([
        // The length of the body is contradictory or unknown (RFC 9112, section 6.3: a client discards the body).
        body("two-lengths", "Content-Length: 1\r\nContent-Length: 2\r\n\r\nok"),
        body("length-that-is-no-number", "Content-Length: many\r\n\r\nok"),
        // HTTP/1.0 has no Transfer-Encoding (RFC 9112, section 6.1: a client treats the framing as faulty).
        all("http-1.0-and-chunked", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        lines("nul-in-a-value", "X: a\0b\r\n"),
        // Heads that end too soon, or never.
        body("partial-head", "Content-Len"),
        all("status-line-alone", OK.as_bytes()),
        accepts("reset-in-the-head", vec![say("HTTP/1.1 200 OK\r\nContent-Len"), Act::Reset]),
        accepts("partial-head-and-silence", vec![say("HTTP/1.1 200 OK\r\nContent-Len"), Act::Hang]),
        accepts("drip-of-a-head", vec![say(OK), repeat("X")]),
        accepts("endless-headers", vec![say(OK), repeat(format!("X-Header: {}\r\n", "x".repeat(8000)))]),
        body("large-head", &format!("X: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(64 * 1024))),
        accepts("short-headers-for-ever", vec![say(OK), repeat("X: y\r\n".repeat(50))]),
    ]);
    cases.extend([unread("answer-before-reading", &[Act::Read]), unread("close-without-reading", &[Act::Close])]);
    cases
}

/// Returns answers that never mean delivered.
pub fn failing() -> Vec<Case> {
    const CLOSED: End = End::Failed(&["closed_without_answer"]);
    const NOT_HTTP: End = End::Failed(&["not_http"]);
    const MALFORMED: End = End::Failed(&["malformed_answer"]);
    const TIMEOUT: End = End::Failed(&["timeout"]);
    /// Ends the attempt by its size, or by its time if the machine is slow.
    const TOO_LARGE_IN_TIME: End = End::Failed(&["header_too_large", "timeout"]);
    let does = |name, end, acts: Vec<Act>| case(name, [Act::Read].into_iter().chain(acts), end);
    let says = |name, end, answer: &[u8]| does(name, end, vec![say(answer)]);
    let repeats = |name, end, first: &str, again: &str| does(name, end, vec![say(first), repeat(again)]);
    let long = "x".repeat(8000);
    let mut random = fastrand::Rng::with_seed(1);
    let random: Vec<u8> = std::iter::repeat_with(|| random.u8(128..)).take(512).collect();
    vec![
        case("closes-at-once", [Act::Close], CLOSED),
        says("closes", CLOSED, b""),
        does("resets", CLOSED, vec![Act::Reset]),
        // Services other than HTTP on the port.
        says("ssh", NOT_HTTP, b"SSH-2.0-OpenSSH_9.6\r\n"),
        says("smtp", NOT_HTTP, b"220 mail.example ESMTP\r\n"),
        says("ftp", NOT_HTTP, b"220 (vsFTPd 3.0.5)\r\n"),
        says("redis", NOT_HTTP, b"-ERR unknown command 'POST'\r\n"),
        says("mysql", NOT_HTTP, b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00"),
        says("memcached", NOT_HTTP, b"ERROR\r\n"),
        case("greets-first", [say("SSH-2.0-OpenSSH_9.6\r\n"), Act::Read], NOT_HTTP),
        says("html", NOT_HTTP, b"<html><body>It works!</body></html>"),
        says("json", NOT_HTTP, b"{\"ok\":true}"),
        says("http-2-settings", NOT_HTTP, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
        says("http-2", NOT_HTTP, b"HTTP/2 200 OK\r\n\r\n"),
        says("http-3.0", NOT_HTTP, b"HTTP/3.0 200\r\n\r\n"),
        says("rtsp", NOT_HTTP, b"RTSP/1.0 200 OK\r\n\r\n"),
        says("icy", NOT_HTTP, b"ICY 200 OK\r\n\r\n"),
        says("lower-case", NOT_HTTP, b"http/1.1 200 ok\r\n\r\n"),
        says("leading-blank", NOT_HTTP, b" HTTP/1.1 200 OK\r\n\r\n"),
        says("nul-bytes", NOT_HTTP, &[0; 512]),
        says("random-bytes", NOT_HTTP, &random),
        says("tls-alert", NOT_HTTP, b"\x15\x03\x01\x00\x02\x02\x46"),
        // Heads that end too soon, or never.
        says("partial-status-line", CLOSED, b"HTTP/1.1 20"),
        says("continue-and-nothing", CLOSED, b"HTTP/1.1 100 Continue\r\n\r\n"),
        does("reset-in-the-status-line", CLOSED, vec![say("HTTP/1.1 200"), Act::Reset]),
        does("partial-status-line-and-silence", TIMEOUT, vec![say("HTTP/1.1 200 O"), Act::Hang]),
        does("continue-and-silence", TIMEOUT, vec![say("HTTP/1.1 100 Continue\r\n\r\n"), Act::Hang]),
        repeats("drip-of-a-status-line", TIMEOUT, "HTTP/1.1 200 ", "X"),
        does("silence", TIMEOUT, vec![Act::Hang]),
        case("silence-without-reading", [Act::Peek, Act::Pause(Duration::from_secs(3600))], TIMEOUT),
        repeats("endless-status-line", TOO_LARGE_IN_TIME, "HTTP/1.1 200 ", &long),
        repeats("continue-for-ever", TIMEOUT, "", "HTTP/1.1 100 Continue\r\n\r\n"),
        repeats("hints-for-ever", TIMEOUT, "", &format!("HTTP/1.1 103 Early Hints\r\nLink: {long}\r\n\r\n")),
        // Answers with another meaning, or that HTTP does not define.
        says(
            "switching-protocols",
            End::Failed(&["status"]),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        ),
        says(
            "redirect",
            End::Failed(&["redirect"]),
            b"HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n",
        ),
        says("status-of-two-digits", MALFORMED, b"HTTP/1.1 99 x\r\n\r\n"),
        says("status-of-four-digits", MALFORMED, b"HTTP/1.1 1000 x\r\n\r\n"),
        says("status-in-words", MALFORMED, b"HTTP/1.1 OK\r\n\r\n"),
        says("status-600", End::Failed(&["status"]), b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n"),
    ]
}
