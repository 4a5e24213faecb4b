//! Secrets and signatures.

use proptest::{prelude::*, sample::select};

use crate::{
    checks::signature::{base64, check, check_secret, input},
    generate::anything,
};

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 24..=64)
}

proptest! {
    #[test]
    fn a_secret_is_one_in_exactly_one_writing(
        key in prop::collection::vec(any::<u8>(), 0..80),
        prefix in select(&["whsec_", "whsec_", "WHSEC_", "", "whpk_", "whsec_whsec_"][..]),
        end in select(&["", "", "=", "\n", "A"][..]),
    ) {
        let text = format!("{prefix}{}{end}", base64(&key));
        let parsed = check_secret(&text);
        if prefix == "whsec_" && end.is_empty() {
            prop_assert_eq!(parsed.is_ok(), (24..=64).contains(&key.len()));
        }
    }

    #[test]
    fn what_is_signed_is_accepted_and_nothing_else(
        key in key(), id in "[ -~]{0,40}",
        timestamp in prop_oneof!["16142653[0-9]{2}", "[0-9]{1,20}", "[+0 ]16142653[0-9]{2}", "[+ -]?[0-9]{0,3}"],
        signatures in "(v1,[A-Za-z0-9+/=]{0,48} ?){0,3}", body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = check(&format!("whsec_{}", base64(&key)), &id, &timestamp, &signatures, &body);
    }

    #[test]
    fn headers_of_any_kind_fit_or_do_not(bytes in anything("signature")) {
        input(&bytes);
    }

    /// Ids contain no dots and times are digits, so no two messages are signed as the same text.
    #[test]
    fn no_two_messages_share_what_is_signed(
        one in ("[a-z0-9_-]{1,6}", 0u64..1000, "[0-9.]{0,6}"), other in ("[a-z0-9_-]{1,6}", 0u64..1000, "[0-9.]{0,6}"),
    ) {
        let signed = |(id, timestamp, body): &(String, u64, String)| {
            let secret = check_secret("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3").unwrap();
            leadhook::delivery::signature::sign(&[secret], id, *timestamp, body.as_bytes())
        };
        prop_assert_eq!(one == other, signed(&one) == signed(&other));
    }
}
