//! Standard Webhooks signatures, version `v1` (HMAC-SHA256): `webhook-signature: v1,<base64> v1,<base64>`, one for each
//! active secret, over `<webhook-id>.<webhook-timestamp>.<body>`.
//!
//! Source: the Standard Webhooks specification (standard-webhooks/standard-webhooks, `spec/standard-webhooks.md`). A
//! secret is `whsec_` and 24 to 64 random bytes in standard base64. While a secret is rotated, old and new are both
//! active, and a receiver accepts a message if any one signature fits.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// What every secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";

/// Fewest bytes of a secret's key.
pub const SECRET_MIN_BYTES: usize = 24;

/// Most bytes of a secret's key.
pub const SECRET_MAX_BYTES: usize = 64;

/// The tolerance that receivers usually grant a timestamp, to either side.
pub const USUAL_TOLERANCE: Duration = Duration::from_secs(300);

/// One signing secret; cannot print, and is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

/// Why a text is no signing secret. Tells nothing of the secret but its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The prefix is missing.
    #[error("a signing secret must begin with `whsec_`")]
    Prefix,
    /// What follows the prefix is no standard base64.
    #[error("a signing secret must be `whsec_` and standard base64 with padding, without blanks or line breaks")]
    Base64,
    /// The key is too short or too long.
    #[error("a signing secret must hold 24 to 64 bytes, this one holds {bytes}")]
    Length {
        /// How many bytes it holds.
        bytes: usize,
    },
}

/// Why a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// `webhook-timestamp` is no number of seconds.
    #[error("webhook-timestamp is no whole number of seconds")]
    Timestamp,
    /// `webhook-timestamp` is further from now than the tolerance allows.
    #[error("webhook-timestamp is too far from now")]
    Stale,
    /// None of the signatures was made with any of the secrets.
    #[error("no signature fits")]
    Mismatch,
}

impl SigningSecret {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// [`SecretError`] when the prefix is missing, the rest is no standard base64, or holds fewer than 24 or more than 64
    /// bytes. The error never contains the text.
    pub fn parse(text: &str) -> Result<SigningSecret, SecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
        let key = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?);
        match key.len() {
            SECRET_MIN_BYTES..=SECRET_MAX_BYTES => Ok(SigningSecret(key)),
            bytes => Err(SecretError::Length { bytes }),
        }
    }

    /// The key's bytes.
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

/// The value of `webhook-signature`: one `v1,<base64>` for each secret, in their order, separated by blanks. Empty
/// without secrets. `timestamp` is in unix seconds and must be the one sent as `webhook-timestamp`.
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signature = |secret: &SigningSecret| {
        let mut context = hmac::Context::with_key(&secret.key());
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    };
    secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
}

/// Checks what arrived: `timestamp` and `signatures` are the headers as they came. Signatures are compared in constant
/// time; versions other than `v1` are passed over.
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
