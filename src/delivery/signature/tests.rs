use proptest::prelude::*;

use super::*;

const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIMESTAMP: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The vector of the Standard Webhooks reference libraries, computed again with Python's `hmac`:
/// `b64encode(hmac.new(b64decode(SECRET[6:]), b"<id>.<timestamp>.<body>", sha256).digest())`.
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn secret() -> SigningSecret {
    SigningSecret::parse(SECRET).unwrap()
}

fn other() -> SigningSecret {
    SigningSecret::parse(&format!("whsec_{}", BASE64_STANDARD.encode([7; 32]))).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn check(secrets: &[SigningSecret], timestamp: &str, signatures: &str) -> Result<(), VerifyError> {
    verify(secrets, ID, timestamp, signatures, BODY, at(TIMESTAMP), USUAL_TOLERANCE)
}

#[test]
fn the_vector_of_the_reference_libraries() {
    assert_eq!(sign(&[secret()], ID, TIMESTAMP, BODY), SIGNATURE);
    assert_eq!(check(&[secret()], "1614265330", SIGNATURE), Ok(()));
}

#[test]
fn one_signature_for_each_secret_in_their_order() {
    let both = sign(&[other(), secret()], ID, TIMESTAMP, BODY);
    let (first, second) = both.split_once(' ').unwrap();
    assert_eq!(second, SIGNATURE);
    assert_eq!(first, sign(&[other()], ID, TIMESTAMP, BODY));
    assert_eq!(sign(&[], ID, TIMESTAMP, BODY), "");
}

#[test]
fn a_receiver_with_one_of_two_rotated_secrets_accepts() {
    let both = sign(&[other(), secret()], ID, TIMESTAMP, BODY);
    assert_eq!(check(&[secret()], "1614265330", &both), Ok(()));
    assert_eq!(check(&[other()], "1614265330", &both), Ok(()));
    assert_eq!(check(&[other(), secret()], "1614265330", SIGNATURE), Ok(()));
}

#[test]
fn what_is_not_accepted() {
    let mismatches =
        ["", "v1,", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,not base64", "v1,AAAA", &SIGNATURE[3..]];
    for signatures in mismatches {
        assert_eq!(check(&[secret()], "1614265330", signatures), Err(VerifyError::Mismatch), "{signatures}");
    }
    assert_eq!(check(&[other()], "1614265330", SIGNATURE), Err(VerifyError::Mismatch));
    assert_eq!(check(&[], "1614265330", SIGNATURE), Err(VerifyError::Mismatch));
    assert_eq!(check(&[secret()], "1614265331", SIGNATURE), Err(VerifyError::Mismatch));
    for timestamp in ["", "-1", "1614265330.5", "now"] {
        assert_eq!(check(&[secret()], timestamp, SIGNATURE), Err(VerifyError::Timestamp), "{timestamp}");
    }
}

#[test]
fn a_timestamp_beyond_the_tolerance_is_stale_to_either_side() {
    let seen_at = |now| verify(&[secret()], ID, "1614265330", SIGNATURE, BODY, at(now), USUAL_TOLERANCE);
    assert_eq!(seen_at(TIMESTAMP + 300), Ok(()));
    assert_eq!(seen_at(TIMESTAMP - 300), Ok(()));
    assert_eq!(seen_at(TIMESTAMP + 301), Err(VerifyError::Stale));
    assert_eq!(seen_at(TIMESTAMP - 301), Err(VerifyError::Stale));
}

#[test]
fn secrets_of_24_to_64_bytes_only() {
    for bytes in [0, 23, 24, 25, 32, 64, 65] {
        let parsed = SigningSecret::parse(&format!("whsec_{}", BASE64_STANDARD.encode(vec![1; bytes])));
        match bytes {
            24..=64 => assert_eq!(parsed.unwrap().bytes(), vec![1; bytes]),
            _ => assert_eq!(parsed.unwrap_err(), SecretError::Length { bytes }),
        }
    }
}

#[test]
fn unusable_secrets_are_refused_without_being_shown() {
    let table = [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
        ("", SecretError::Prefix),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", SecretError::Base64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", SecretError::Base64),
        ("whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", SecretError::Base64),
        ("whsec_", SecretError::Length { bytes: 0 }),
    ];
    for (text, wanted) in table {
        let error = SigningSecret::parse(text).unwrap_err();
        assert_eq!(error, wanted, "{text:?}");
        assert!(!error.to_string().contains("MfKQ") && !error.to_string().contains("AQEB"));
    }
}

#[test]
fn debug_shows_nothing() {
    assert_eq!(format!("{:?}", secret()), "SigningSecret(hidden)");
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_what_is_changed_does_not(
        key in prop::collection::vec(any::<u8>(), 24..=64),
        id in "[A-Za-z0-9_]{1,64}",
        body in prop::collection::vec(any::<u8>(), 0..512),
        timestamp in 0u64..4_000_000_000,
    ) {
        let secrets = [SigningSecret(key.into())];
        let signatures = sign(&secrets, &id, timestamp, &body);
        let check = |body: &[u8]| {
            verify(&secrets, &id, &timestamp.to_string(), &signatures, body, at(timestamp), Duration::ZERO)
        };
        prop_assert_eq!(check(&body), Ok(()));
        let changed = [body.as_slice(), b"x"].concat();
        prop_assert_eq!(check(&changed), Err(VerifyError::Mismatch));
    }
}
