//! Identities: what names a job for ever, and what names one published copy of it.

use aws_lc_rs::digest::{Context, SHA256};

use crate::store::TargetKey;

/// The `webhook-id` of an event for a target: the same for every attempt, crash, duplicate and replay.
///
/// A digest over the upstream `message_id` (if any), the body and the target key, each length-prefixed so that no two
/// inputs run together, and with absence told apart from emptiness. 128 bits in hex: no dots, because Standard Webhooks
/// joins the signed parts with them.
pub fn webhook_id(message_id: Option<&str>, body: &[u8], target: &TargetKey) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(&[u8::from(message_id.is_some())]);
    for part in [message_id.unwrap_or_default().as_bytes(), body, target.as_str().as_bytes()] {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finish();
    format!("wh_{}", hex(&digest.as_ref()[..16]))
}

/// A fresh id for one copy that is about to be published: 128 random bits in hex. It tells a redelivery of a copy that
/// this process has worked on from another copy of the same job.
pub fn fresh_copy() -> String {
    hex(&fastrand::u128(..).to_be_bytes())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Whether `said` is the beginning of an id, with or without the `wh_` that all of ours begin with.
pub fn is_beginning(said: &str, id: &str) -> bool {
    id.starts_with(said) || id.strip_prefix("wh_").is_some_and(|rest| rest.starts_with(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_without_dots_and_different_in_every_part() {
        let target = TargetKey::new("acme", Some("ABC"), None);
        let id = webhook_id(Some("m1"), b"{}", &target);
        assert_eq!(id, webhook_id(Some("m1"), b"{}", &target));
        assert_eq!(id.len(), 35);
        assert!(!id.contains('.'));
        let others = [
            webhook_id(None, b"{}", &target),
            webhook_id(Some(""), b"{}", &target),
            webhook_id(Some("m"), b"1{}", &target),
            webhook_id(Some("m1"), b"{} ", &target),
            webhook_id(Some("m1"), b"{}", &TargetKey::new("acme", None, None)),
        ];
        for (n, other) in others.iter().enumerate() {
            assert_ne!(&id, other);
            assert!(!others[..n].contains(other));
        }
    }

    #[test]
    fn copies_differ() {
        assert_eq!(fresh_copy().len(), 32);
        assert_ne!(fresh_copy(), fresh_copy());
    }
}
