//! Signatures: ours are accepted, and nothing else is, by an independent implementation.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use leadhook::delivery::signature::{SecretError, SigningSecret, VerifyError, sign, verify};

/// Used if an input holds no usable secret, so that the rest of it is checked anyway.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";

const TOLERANCE: Duration = Duration::from_secs(300);

/// Checks four lines (secret, id, timestamp, signatures), an empty line, and the body.
pub fn input(input: &[u8]) -> &'static str {
    let mut parts = input.splitn(6, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (secret, id, timestamp, signatures) = (line(), line(), line(), line());
    line();
    let body = parts.next().unwrap_or_default();
    if check_secret(&secret).is_err() && !secret.is_empty() {
        let _ = check(SECRET, &id, &timestamp, &signatures, body);
        return "secret";
    }
    match check(if secret.is_empty() { SECRET } else { &secret }, &id, &timestamp, &signatures, body) {
        Ok(()) => "fits",
        Err(VerifyError::Mismatch) => "mismatch",
        Err(VerifyError::Stale) => "stale",
        Err(VerifyError::Timestamp) => "timestamp",
    }
}

/// Checks that a text is a secret in exactly one spelling, and is never shown.
pub fn check_secret(text: &str) -> Result<SigningSecret, SecretError> {
    let parsed = SigningSecret::parse(text);
    match &parsed {
        Ok(secret) => {
            assert_eq!(text, format!("whsec_{}", base64(secret.bytes())));
            assert!((24..=64).contains(&secret.bytes().len()));
            assert_eq!(format!("{secret:?}"), "SigningSecret(hidden)");
        }
        Err(error) => {
            let fixed = [SecretError::Prefix, SecretError::Base64].map(|error| error.to_string());
            let length = matches!(error, SecretError::Length { .. });
            assert!(length || fixed.contains(&error.to_string()), "{error}");
            assert_eq!(*error == SecretError::Prefix, !text.starts_with("whsec_"));
        }
    }
    parsed
}

/// Checks every rule of one message with one secret: signed by us, and with the signatures that arrived.
pub fn check(secret: &str, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> Result<(), VerifyError> {
    let secret = SigningSecret::parse(secret).expect("a secret");
    let other = SigningSecret::parse(&format!("whsec_{}", base64(&[0x5a; 33]))).expect("a secret");
    let seconds = timestamp.parse().unwrap_or(1_700_000_000);
    ours_is_accepted(&secret, &other, id, seconds, body);
    // The signature covers the time as it is written: `+5` and `05` are not `5`.
    for written in [timestamp, &seconds.to_string()] {
        let _ = theirs(&secret, id, timestamp, &tag(secret.bytes(), id, written, body), body);
    }
    theirs(&secret, id, timestamp, signatures, body)
}

fn ours_is_accepted(secret: &SigningSecret, other: &SigningSecret, id: &str, timestamp: u64, body: &[u8]) {
    let Some(now) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(timestamp)) else { return };
    let expected = tag(secret.bytes(), id, &timestamp.to_string(), body);
    let both = sign(&[other.clone(), secret.clone()], id, timestamp, body);
    assert_eq!(both.split(' ').nth(1), Some(expected.as_str()));
    assert!(both.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "a header value");
    let check = |secret: &SigningSecret, id: &str, timestamp: u64, signatures: &str, body: &[u8]| {
        verify(std::slice::from_ref(secret), id, &timestamp.to_string(), signatures, body, now, TOLERANCE)
    };
    assert_eq!(check(secret, id, timestamp, &both, body), Ok(()), "one of two secrets is enough");
    assert_eq!(check(other, id, timestamp, &both, body), Ok(()));
    let mismatch = Err(VerifyError::Mismatch);
    if secret.bytes() != other.bytes() {
        assert_eq!(check(other, id, timestamp, &expected, body), mismatch, "another secret");
    }
    assert_eq!(check(secret, id, timestamp, &expected, &[body, b"\0"].concat()), mismatch, "a byte more");
    if let Some((last, rest)) = body.split_last() {
        assert_eq!(check(secret, id, timestamp, &expected, rest), mismatch, "a byte less");
        let changed = [rest, &[last ^ 1]].concat();
        assert_eq!(check(secret, id, timestamp, &expected, &changed), mismatch, "another byte");
    }
    assert_eq!(check(secret, &format!("{id}_"), timestamp, &expected, body), mismatch, "another id");
    assert_eq!(check(secret, id, timestamp ^ 1, &expected, body), mismatch, "another time");
}

/// Checks that only a time near `now` is accepted, with a signature that is in the header letter for letter.
fn theirs(secret: &SigningSecret, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> Result<(), VerifyError> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_265_330);
    let verdict = verify(std::slice::from_ref(secret), id, timestamp, signatures, body, now, TOLERANCE);
    let seconds = timestamp.parse::<u64>().ok();
    let near = seconds.is_some_and(|seconds| seconds.abs_diff(1_614_265_330) <= TOLERANCE.as_secs());
    let there = signatures.split(' ').any(|entry| entry == tag(secret.bytes(), id, timestamp, body));
    let expected = match (seconds, near, there) {
        (None, ..) => Err(VerifyError::Timestamp),
        (_, false, _) => Err(VerifyError::Stale),
        (_, _, false) => Err(VerifyError::Mismatch),
        (_, _, true) => Ok(()),
    };
    assert_eq!(verdict, expected);
    verdict
}

/// Computes an HMAC by its definition (RFC 2104), without the library under test.
fn tag(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let pad = |byte: u8| -> Vec<u8> {
        let keys = key.iter().copied().chain(std::iter::repeat(0)).take(64);
        keys.map(|key| key ^ byte).collect()
    };
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let inner = digest(&SHA256, &[pad(0x36), message].concat());
    format!("v1,{}", base64(digest(&SHA256, &[&pad(0x5c), inner.as_ref()].concat()).as_ref()))
}

/// Encodes standard base64 with padding (RFC 4648, section 4), bit by bit.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().fold(String::new(), |mut bits, byte| {
        write!(bits, "{byte:08b}").expect("a String takes everything");
        bits
    });
    let mut text: String = bits
        .as_bytes()
        .chunks(6)
        .map(|six| (0..6).fold(0, |sum, at| sum * 2 + usize::from(six.get(at) == Some(&b'1'))))
        .map(|index| char::from(LETTERS[index]))
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}
