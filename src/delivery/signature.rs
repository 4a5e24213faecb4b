//! Standard Webhooks signatures, version `v1` (HMAC-SHA256). The header is
//! `webhook-signature: v1,<base64> v1,<base64>`, with one signature for each active secret over
//! `<webhook-id>.<webhook-timestamp>.<body>`.
//!
//! Source: the Standard Webhooks specification (standard-webhooks/standard-webhooks, `spec/standard-webhooks.md`). A
//! secret is `whsec_` followed by 24 to 64 random bytes in standard base64. During a rotation the old and the new
//! secret are active, and a receiver accepts a message if any signature matches.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// The prefix of every secret.
pub const SECRET_PREFIX: &str = "whsec_";

/// The shortest key of a secret, in bytes.
pub const SECRET_MIN_BYTES: usize = 24;

/// The longest key of a secret, in bytes.
pub const SECRET_MAX_BYTES: usize = 64;

/// The tolerance that receivers usually allow for a timestamp, in both directions.
pub const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// One signing secret. It cannot be printed, and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

/// Why a text is not a signing secret. Reveals nothing about the secret except its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The prefix is missing.
    #[error("a signing secret must begin with `whsec_`")]
    Prefix,
    /// The text after the prefix is not standard base64.
    #[error("a signing secret must be `whsec_` and standard base64 with padding, without blanks or line breaks")]
    Base64,
    /// The key is too short or too long.
    #[error("a signing secret must hold 24 to 64 bytes, this one holds {bytes}")]
    Length {
        /// The length of the key, in bytes.
        bytes: usize,
    },
}

/// Why a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// `webhook-timestamp` is not a number of seconds.
    #[error("webhook-timestamp is not a whole number of seconds")]
    Timestamp,
    /// `webhook-timestamp` is further from now than the tolerance allows.
    #[error("webhook-timestamp is too far from now")]
    Stale,
    /// No signature was made with one of the secrets.
    #[error("no signature fits")]
    Mismatch,
}

impl SigningSecret {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// [`SecretError`] if the prefix is missing, the rest is not standard base64, or it holds fewer than 24 or more
    /// than 64 bytes. The error never contains the text.
    pub fn parse(text: &str) -> Result<SigningSecret, SecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
        let key = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?);
        match key.len() {
            SECRET_MIN_BYTES..=SECRET_MAX_BYTES => Ok(SigningSecret(key)),
            bytes => Err(SecretError::Length { bytes }),
        }
    }

    /// Returns the key's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(hidden)")
    }
}

/// Returns the value of `webhook-signature`: one `v1,<base64>` for each secret, in their order, separated by spaces.
/// Empty without secrets. `timestamp` is in unix seconds and must be the one sent as `webhook-timestamp`.
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signature = |secret: &SigningSecret| {
        let mut context = hmac::Context::with_key(&secret.key());
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    };
    secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
}

/// Verifies a received message. `timestamp` and `signatures` are the header values as they came. Compares signatures in
/// constant time, and ignores versions other than `v1`.
///
/// # Errors
/// [`VerifyError`] says why the message must not be trusted.
pub fn verify(
    secrets: &[SigningSecret],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: SystemTime,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let seconds: u64 = timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
    if now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().abs_diff(seconds) > tolerance.as_secs()
    {
        return Err(VerifyError::Stale);
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let keys: Vec<_> = secrets.iter().map(SigningSecret::key).collect();
    let fits = |tag: Vec<u8>| keys.iter().any(|key| hmac::verify(key, &signed, &tag).is_ok());
    let tags = signatures.split(' ').filter_map(|entry| BASE64_STANDARD.decode(entry.strip_prefix("v1,")?).ok());
    if tags.into_iter().any(fits) { Ok(()) } else { Err(VerifyError::Mismatch) }
}

#[cfg(test)]
mod tests;
