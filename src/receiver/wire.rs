//! The parts of HTTP/1.1 that a webhook receiver needs, and the misbehaviour that a test of a sender needs.

use std::{io, time::Duration};

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::script::Action;

/// The most bytes of a request's first line and headers.
const HEAD_LIMIT: usize = 64 * 1024;

/// The most bytes of a request's body.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// The pause between two bytes of [`Action::Drip`].
const DRIP: Duration = Duration::from_millis(200);

/// A request, read to its end.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) keep_alive: bool,
}

/// Reads the next request of a connection. Returns `None` if the other side has closed it, or the request was refused.
pub(super) async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut budget = HEAD_LIMIT;
    let Some(first) = read_line(stream, &mut budget).await? else { return Ok(None) };
    let mut words = first.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return refuse(stream).await;
    };
    let mut headers = HeaderMap::new();
    loop {
        let Some(line) = read_line(stream, &mut budget).await? else { return Ok(None) };
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = parse_header(&line) else { return refuse(stream).await };
        headers.append(name, value);
    }
    let Some(body) = read_body(stream, &headers).await? else { return refuse(stream).await };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target.to_owned(), None),
    };
    let keep_alive = version == "HTTP/1.1" && !says(&headers, "connection", "close");
    Ok(Some(Request { method: method.to_owned(), path, query, headers, body, keep_alive }))
}

/// Does what the script says. Returns whether the connection can take another request.
pub(super) async fn act(stream: &mut BufReader<TcpStream>, action: Action, keep_alive: bool) -> io::Result<bool> {
    match action {
        Action::Answer { status, retry_after } => {
            stream.write_all(answer(status, retry_after, keep_alive).as_bytes()).await?;
            Ok(keep_alive)
        }
        Action::Hang => {
            // All further bytes are discarded. The wait ends when the other side gives up.
            tokio::io::copy(stream, &mut tokio::io::sink()).await?;
            Ok(false)
        }
        Action::Drip => {
            stream.write_all(endless_head(200).as_bytes()).await?;
            loop {
                tokio::time::sleep(DRIP).await;
                stream.write_all(b".").await?;
            }
        }
        Action::Endless { status } => {
            stream.write_all(endless_head(status).as_bytes()).await?;
            let block = [b'.'; 16 * 1024];
            loop {
                stream.write_all(&block).await?;
            }
        }
        Action::Close => Ok(false),
        Action::Reset => {
            stream.write_all(b"HTTP/1.1 200 Scripted\r\nContent-Length: 1000\r\n\r\nhalf of it").await?;
            stream.flush().await?;
            // Closing then sends a reset in place of an orderly end.
            stream.get_ref().set_zero_linger()?;
            Ok(false)
        }
        Action::Garbage => {
            stream.write_all(b"\x15\x03\x01 220 this is no HTTP\r\n\r\n").await?;
            Ok(false)
        }
    }
}

fn answer(status: u16, retry_after: Option<u64>, keep_alive: bool) -> String {
    let mut answer = format!("HTTP/1.1 {status} Scripted\r\n");
    // The location is on this same receiver, so it sees a sender that follows the redirect.
    if (300..400).contains(&status) {
        answer.push_str("Location: /elsewhere\r\n");
    }
    if let Some(seconds) = retry_after {
        answer.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    if !keep_alive {
        answer.push_str("Connection: close\r\n");
    }
    if matches!(status, 204 | 304) {
        answer.push_str("\r\n");
    } else {
        let body = format!("scripted answer {status}\n");
        answer.push_str(&format!("Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }
    answer
}

/// Returns a head without a length. The body would end with the connection, but it never ends.
fn endless_head(status: u16) -> String {
    format!("HTTP/1.1 {status} Scripted\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
}

/// Reads the next line without its end. Returns `None` if the connection or the budget ends before the line does.
async fn read_line(stream: &mut BufReader<TcpStream>, budget: &mut usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = stream.take(*budget as u64).read_until(b'\n', &mut line).await?;
    *budget -= read;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn parse_header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
}

/// Reads the body, by its length or in chunks. Returns `None` if it is too long or its framing is invalid.
async fn read_body(stream: &mut BufReader<TcpStream>, headers: &HeaderMap) -> io::Result<Option<Bytes>> {
    if says(headers, EXPECT.as_str(), "100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        return read_chunks(stream).await;
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(Some(Bytes::new())) };
    match length.to_str().unwrap_or_default().parse() {
        Ok(length @ 0..=BODY_LIMIT) => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            Ok(Some(body.into()))
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Bytes>> {
    let mut body = Vec::new();
    loop {
        let mut budget = HEAD_LIMIT;
        let Some(line) = read_line(stream, &mut budget).await? else { return Ok(None) };
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { return Ok(None) };
        if size > BODY_LIMIT - body.len() {
            return Ok(None);
        }
        let from = body.len();
        body.resize(from + size, 0);
        stream.read_exact(&mut body[from..]).await?;
        // A chunk ends with its line. After the last chunk come trailers, up to an empty line.
        while let Some(line) = read_line(stream, &mut budget).await? {
            match (line.is_empty(), size) {
                (true, 0) => return Ok(Some(body.into())),
                (true, _) => break,
                (false, 0) => continue,
                (false, _) => return Ok(None),
            }
        }
    }
}

/// Returns whether a header lists this word.
fn says(headers: &HeaderMap, name: &str, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|entry| entry.trim().eq_ignore_ascii_case(word))
}

async fn refuse(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    stream.write_all(answer(400, None, false).as_bytes()).await?;
    Ok(None)
}
