use std::path::Path;

use super::*;
use crate::{
    event::EventKind,
    store::{Resolution, load::Attempt},
};

/// What a header value comes to, or its problem without the place.
fn header(value: &str, directory: Option<&Path>) -> Result<String, String> {
    let yaml = format!(
        "organizations: {{ acme: {{ webhook: {{ url: 'https://a.example', events: '*', headers: {{ X: {value} }} }} }} }}"
    );
    let store = super::directory(&[("s.yaml", &yaml)]);
    let settings = settings(directory.map(Path::to_owned));
    let Attempt { result, .. } = load::attempt(store.path(), &settings, ENVIRONMENT);
    match result.map_err(|problems| lines(&problems).join("\n")) {
        Ok(store) => match store.resolve("ABC", Some("acme"), EventKind::Queued) {
            Resolution::Targets(targets) => Ok(targets[0].headers["x"].to_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        },
        Err(problem) => Err(problem.split_once(".headers.X").unwrap().1.trim_start_matches(": ").to_owned()),
    }
}

#[test]
fn variables_are_filled_in() {
    #[rustfmt::skip]
    let table = [
        ("'${WEBHOOK_TOKEN}'", Ok("t0p-s3cret")),
        ("'Bearer ${WEBHOOK_TOKEN}'", Ok("Bearer t0p-s3cret")),
        ("'${WEBHOOK_TOKEN}:${WEBHOOK_OTHER}'", Ok("t0p-s3cret:0ther")),
        ("'5$$'", Ok("5$")),
        ("'$${WEBHOOK_TOKEN}'", Ok("${WEBHOOK_TOKEN}")),
        ("'$$$${x'", Ok("$${x")),
        ("plain", Ok("plain")),
        ("''", Ok("")),
        ("'$x'", Err("has a `$` that begins no `${NAME}`; write `$$` for a literal dollar")),
        ("'${WEBHOOK_TOKEN'", Err("has a `$` that begins no `${NAME}`; write `$$` for a literal dollar")),
        ("'${}'", Err("has a `${...}` that names no variable; a name is made of letters, digits and `_`")),
        ("'${WEBHOOK TOKEN}'", Err("has a `${...}` that names no variable; a name is made of letters, digits and `_`")),
        ("'${WEBHOOK_ABSENT}'", Err("refers to the variable `WEBHOOK_ABSENT`, which is not set")),
        ("'${WEBHOOK_EMPTY}'", Err("refers to the variable `WEBHOOK_EMPTY`, which is empty")),
        // A store must not be able to post the worker's own secrets to a tenant.
        ("'${DATABASE_PASSWORD}'", Err("refers to the variable `DATABASE_PASSWORD`, but variables of a store must begin with `WEBHOOK_` (`secrets.environment_prefix`)")),
        ("'${LEADHOOK__AMQP__URLS}'", Err("refers to the variable `LEADHOOK__AMQP__URLS`, but variables of a store must begin with `WEBHOOK_` (`secrets.environment_prefix`)")),
        ("{ file: token }", Err(".file: names the file `token`, but `secrets.directory` is not set, so files cannot be used")),
    ];
    for (value, expected) in table {
        assert_eq!(header(value, None), expected.map(str::to_owned).map_err(str::to_owned), "{value}");
    }
}

#[test]
fn a_value_from_outside_is_not_filled_in_again() {
    let secrets = directory(&[("dollar", "${WEBHOOK_TOKEN}")]);
    assert_eq!(header("{ file: dollar }", Some(secrets.path())).unwrap(), "${WEBHOOK_TOKEN}");
}

#[test]
fn files_are_read_under_the_directory_only() {
    let outside = directory(&[("key", "hunter2")]);
    let secrets = directory(&[("token", "f1le\n"), ("empty", "\n"), ("lines", "a\nb\n"), ("windows", "f1le\r\n")]);
    let directory = secrets.path();
    fs::write(directory.join("large"), vec![b'x'; 64 * 1024 + 1]).unwrap();
    fs::create_dir(directory.join("team")).unwrap();
    fs::write(directory.join("team/token"), "t3am").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(outside.path().join("key"), directory.join("out")).unwrap();
        symlink(outside.path(), directory.join("away")).unwrap();
        symlink("token", directory.join("within")).unwrap();
        assert_eq!(header("{ file: within }", Some(directory)).unwrap(), "f1le");
        for name in ["out", "away/key"] {
            let expected = format!(".file: names the file `{name}`, which is a link out of `secrets.directory`");
            assert_eq!(header(&format!("{{ file: {name} }}"), Some(directory)), Err(expected));
        }
    }
    let absolute = outside.path().join("key").display().to_string();
    let relative = "; write a name relative to `secrets.directory`, without `..` and without a leading `/`";
    #[rustfmt::skip]
    let table = [
        ("{ file: token }".to_owned(), Ok("f1le".to_owned())),
        ("{ file: windows }".to_owned(), Ok("f1le".to_owned())),
        ("{ file: team/token }".to_owned(), Ok("t3am".to_owned())),
        ("{ file: token, prefix: 'Bearer ' }".to_owned(), Ok("Bearer f1le".to_owned())),
        ("{ file: token, prefix: '${WEBHOOK_OTHER} ' }".to_owned(), Ok("0ther f1le".to_owned())),
        ("{ file: token, prefix: '$' }".to_owned(), Err(".prefix: has a `$` that begins no `${NAME}`; write `$$` for a literal dollar".to_owned())),
        ("{ file: ../key }".to_owned(), Err(format!(".file: names the file `../key`{relative}"))),
        ("{ file: team/../token }".to_owned(), Err(format!(".file: names the file `team/../token`{relative}"))),
        (format!("{{ file: {absolute} }}"), Err(format!(".file: names the file `{absolute}`{relative}"))),
        ("{ file: '' }".to_owned(), Err(format!(".file: names the file ``{relative}"))),
        ("{ file: absent }".to_owned(), Err(".file: names the file `absent`, which cannot be read: there is no such file or directory".to_owned())),
        ("{ file: empty }".to_owned(), Err(".file: names the file `empty`, which is empty".to_owned())),
        ("{ file: large }".to_owned(), Err(".file: names the file `large`, which is larger than 64 KiB".to_owned())),
        ("{ file: team }".to_owned(), Err(".file: names `team`, which is not a regular file".to_owned())),
        ("{ file: lines }".to_owned(), Err("contains a line break; a header value is one line (is there one at the end of a variable?)".to_owned())),
        ("{ files: token }".to_owned(), Err(".files: is an unknown key; did you mean `file`?".to_owned())),
        ("{ file: 5 }".to_owned(), Err(".file: is a number, but must be the name of a file under `secrets.directory`".to_owned())),
    ];
    for (value, expected) in table {
        let got = header(&value, Some(directory));
        if value.contains("files") {
            assert!(got.unwrap_err().contains("did you mean `file`?"));
        } else {
            assert_eq!(got, expected, "{value}");
        }
    }
}

#[test]
fn secrets_in_clear_are_warned_of_where_everybody_may_read_them() {
    let text = format!(
        "organizations:\n  acme:\n    webhook:\n      url: https://a.example\n      events: \"*\"\n      headers: {{ X-Source: leads, \
         Authorization: Bearer t0p-s3cret, X-Token: \"${{WEBHOOK_TOKEN}}\" }}\n      signing_secrets: [ {SIGNING_SECRET} ]\n"
    );
    let warnings = |mode: u32| {
        let directory = directory(&[("s.yaml", text.as_str())]);
        fs::set_permissions(directory.path().join("s.yaml"), PermissionsExt::from_mode(mode)).unwrap();
        let store = load::attempt(directory.path(), &settings(None), ENVIRONMENT).result.unwrap();
        lines(store.warnings())
    };
    assert!(warnings(0o640).is_empty());
    let told = warnings(0o644);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("s.yaml:6:"), "{told:?}");
    assert!(told[0].contains("headers.Authorization: is a secret in clear, the first of 2 in this file"), "{told:?}");
    assert!(!told[0].contains("s3cret"), "{told:?}");
}

/// PEM of a certificate and its key, and of another key.
fn pems() -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem(), rcgen::KeyPair::generate().unwrap().serialize_pem())
}

#[test]
fn client_certificates_are_checked_when_the_store_is_loaded_and_stay_with_their_url() {
    let (certificate, key, other) = pems();
    let secrets = tempfile::tempdir().unwrap();
    for (name, text) in [("ours.pem", &certificate), ("ours.key", &key), ("other.key", &other)] {
        fs::write(secrets.path().join(name), text).unwrap();
    }
    let load = |certificate: &str| {
        let yaml = format!(
            "organizations:\n  acme:\n    webhook:\n      url: https://a.example\n      events: \"*\"\n      client_certificate: \
             {certificate}\n    campaigns:\n      same: {{ override: true, webhook: {{ timeout: 5 }} }}\n      other: {{ override: \
             true, webhook: {{ url: https://b.example }} }}\n"
        );
        let directory = directory(&[("s.yaml", yaml.as_str())]);
        let loaded = load::attempt(directory.path(), &settings(Some(secrets.path().to_owned())), ENVIRONMENT).result;
        loaded.map_err(|problems| lines(&problems).join("\n"))
    };
    let store = load("{ certificate: { file: ours.pem }, key: { file: ours.key } }").unwrap();
    let print = |campaign: &str| match store.resolve(campaign, Some("acme"), EventKind::Delivered) {
        Resolution::Targets(targets) => targets[0].client_certificate.as_ref().map(|identity| identity.print()),
        other => panic!("{other:?}"),
    };
    assert!(print("unlisted").is_some() && print("same") == print("unlisted"));
    assert_eq!(print("other"), None, "it must not follow to another URL");
    for (wrong, said) in [
        ("{ certificate: { file: ours.pem } }", "lacks `key`"),
        ("{ certificate: { file: ours.pem }, key: { file: other.key } }", "a key of another certificate"),
        ("{ certificate: { file: ours.key }, key: { file: ours.key } }", "holds no certificate in PEM"),
        ("{ certificate: { file: ours.pem }, key: { file: ours.pem } }", "holds no private key in PEM"),
        ("{ certificate: { file: ours.pem }, kei: { file: ours.key } }", "did you mean `key`?"),
        ("{ certificate: { file: ../ours.pem }, key: { file: ours.key } }", "without `..`"),
        ("ours.pem", "must be a map of keys"),
    ] {
        let problem = load(wrong).err().unwrap();
        assert!(problem.contains(said) && problem.contains("client_certificate"), "{wrong}: {problem}");
        assert!(!problem.contains(key.lines().nth(1).unwrap()), "{problem}");
    }
}

#[test]
fn header_values_are_bounded() {
    let value = |bytes: usize| header(&format!("'{}'", "x".repeat(bytes)), None);
    assert!(value(8192).is_ok());
    assert!(value(8193).unwrap_err().contains("has 8193 bytes, but must have at most 8192"));
}
