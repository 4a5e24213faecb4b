use std::path::Path;

use super::*;
use crate::{
    event::EventKind,
    store::{Resolution, load::Attempt},
};

/// Returns the resolved value of a header, or its problem without the place.
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
    assert!(
        told[0].contains("headers.Authorization: is a secret in plain text, the first of 2 in this file"),
        "{told:?}"
    );
    assert!(!told[0].contains("s3cret"), "{told:?}");
}

/// Makes PEM of a certificate, of its key, and of another key.
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
        Resolution::Targets(targets) => targets[0].client_certificate.as_ref().map(|identity| identity.fingerprint()),
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
fn a_client_certificate_that_is_for_servers_only_is_refused() {
    use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    for (purposes, refused) in
        [(vec![], false), (vec![ServerAuth], true), (vec![ServerAuth, ClientAuth], false), (vec![Any], false)]
    {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.extended_key_usages = purposes.clone();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let identity = crate::store::ClientCertificate::parse(&certificate, &key.serialize_pem());
        let expected =
            "holds a certificate that is not for clients: its extended key usage lacks client authentication";
        assert_eq!(identity.err(), refused.then_some(expected), "{purposes:?}");
    }
}

/// Loads a store whose organization also has the line `more`. One campaign inherits its URL, and another has its own.
fn load_with(more: &str, campaign: &str, secrets: &Path) -> Result<Store, String> {
    let yaml = format!(
        "organizations:\n  acme:\n    webhook:\n      url: https://a.example\n      events: \"*\"\n      {more}\n    campaigns:\n      \
         same: {{ override: true, webhook: {{ {campaign} }} }}\n      other: {{ override: true, webhook: {{ url: https://b.example }} }}\n"
    );
    let directory = directory(&[("s.yaml", yaml.as_str())]);
    let loaded = load::attempt(directory.path(), &settings(Some(secrets.to_owned())), ENVIRONMENT).result;
    loaded.map_err(|problems| lines(&problems).join("\n"))
}

fn target(store: &Store, campaign: &str) -> std::sync::Arc<crate::store::Target> {
    match store.resolve(campaign, Some("acme"), EventKind::Delivered) {
        Resolution::Targets(targets) => targets[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_authority_of_a_target_is_checked_and_stays_with_its_url() {
    let ((one, key, _), (other, ..)) = (pems(), pems());
    let secrets = tempfile::tempdir().unwrap();
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let files = [
        ("one.pem", one.clone()),
        ("two.pem", format!("{one}{other}")),
        ("key.pem", key.clone()),
        ("odd.pem", not_x509),
    ];
    for (name, text) in &files {
        fs::write(secrets.path().join(name), text).unwrap();
    }
    let load = |ca: &str| load_with(&format!("ca_certificate: {ca}"), "timeout: 5", secrets.path());
    let print = |store: &Store, campaign| target(store, campaign).ca_certificate.as_ref().map(|it| it.fingerprint());
    let (by_file, two) = (load("{ file: one.pem }").unwrap(), load("{ file: two.pem }").unwrap());
    let by_text = load(&serde_json::to_string(&one).unwrap()).unwrap();
    assert_eq!(target(&two, "unlisted").ca_certificate.as_ref().unwrap().certificates().len(), 2);
    assert_eq!(print(&by_file, "unlisted"), print(&by_text, "unlisted"));
    assert_ne!(print(&by_file, "unlisted"), print(&two, "unlisted"));
    assert_eq!(print(&by_file, "same"), print(&by_file, "unlisted"));
    assert_eq!(print(&by_file, "other"), None, "it must not follow to another URL");
    for (wrong, said) in [
        ("{ file: key.pem }", "holds a private key; only certificates belong here"),
        ("{ file: odd.pem }", "holds a certificate that is not X.509"),
        ("one.pem", "holds no certificate in PEM"),
        ("{ file: ../one.pem }", "without `..`"),
        ("[one.pem]", "is a list, but must be a text (in quotes) or `{ file: NAME }`"),
    ] {
        let problem = load(wrong).err().unwrap();
        assert!(problem.starts_with("s.yaml:6:") && problem.contains("webhook.ca_certificate"), "{problem}");
        assert!(problem.contains(said), "{wrong}: {problem}");
        assert!(!problem.contains(key.lines().nth(1).unwrap()), "{problem}");
    }
}

#[test]
fn oauth2_is_checked_and_stays_with_its_url() {
    let secrets = directory(&[("client-secret", "f1le\n")]);
    let good = "token_url: https://login.a.example/token?k=qu3ry, client_id: leads, client_secret: '${WEBHOOK_TOKEN}'";
    let load = |oauth2: &str, campaign: &str| load_with(&format!("oauth2: {{ {oauth2} }}"), campaign, secrets.path());
    let store = load(&format!("{good}, scope: 'leads.write leads.read'"), "timeout: 5").unwrap();
    let target = |campaign| target(&store, campaign).oauth2.clone();
    let own = target("unlisted").unwrap();
    assert_eq!((own.client_id.as_str(), own.client_secret()), ("leads", "t0p-s3cret"));
    assert_eq!(
        (own.token_url.host_str(), own.scope.as_deref()),
        (Some("login.a.example"), Some("leads.write leads.read"))
    );
    assert_eq!(target("same").unwrap().fingerprint(), own.fingerprint());
    assert!(target("other").is_none(), "it must not follow to another URL");
    let printed = format!("{own:?}");
    assert!(!printed.contains("s3cret") && !printed.contains("qu3ry"), "{printed}");
    let by_file = "token_url: https://login.a.example, client_id: leads, client_secret: { file: client-secret }";
    assert!(load(by_file, "headers: { X-Key: a }").is_ok());
    for (wrong, said) in [
        ("client_id: leads, client_secret: x", "oauth2: lacks `token_url`, the URL that gives tokens"),
        ("token_url: https://l.example, client_secret: x", "oauth2: lacks `client_id`"),
        ("token_url: https://l.example, client_id: leads", "oauth2: lacks `client_secret`"),
        ("token_url: l.example, client_id: leads, client_secret: x", "oauth2.token_url: is not a complete URL"),
        (
            "token_url: 'https://v4lue:x@l.example', client_id: leads, client_secret: x",
            "write them as `client_id` and `client_secret`",
        ),
        ("token_url: 'https://l.example/${WEBHOOK_TOKEN}', client_id: leads, client_secret: x", "never in URLs"),
        (
            "token_url: https://l.example, client_id: '${WEBHOOK_TOKEN}', client_secret: x",
            "oauth2.client_id: must be printable ASCII, and no variable",
        ),
        (
            "token_url: https://l.example, client_id: leads, client_secret: 'v4lüe'",
            "oauth2.client_secret: must be printable ASCII and not empty",
        ),
        ("token_url: https://l.example, client_id: leads, client_secret: '${WEBHOOK_ABSENT}'", "which is not set"),
        (
            "token_url: https://l.example, client_id: leads, client_secret: x, scope: 'a  b'",
            "oauth2.scope: must be printable ASCII without",
        ),
        ("token_url: https://l.example, client_id: leads, client_secret: x, scopes: a", "did you mean `scope`?"),
    ] {
        let problem = load(wrong, "timeout: 5").err().unwrap();
        assert!(problem.starts_with("s.yaml:6:") && problem.contains(said), "{wrong}: {problem}");
        assert!(!problem.contains("v4l"), "{problem}");
    }
    for (oauth2, more, campaign, place) in [
        (
            good,
            "\n      headers: { authorization: Bearer x }",
            "timeout: 5",
            "s.yaml:3:5: organizations.acme.webhook: has `oauth2`",
        ),
        (
            good,
            "",
            "headers: { Authorization: Bearer x }",
            "s.yaml:8:31: organizations.acme.campaigns.same.webhook: has `oauth2`",
        ),
    ] {
        let problem = load_with(&format!("oauth2: {{ {oauth2} }}{more}"), campaign, secrets.path()).err().unwrap();
        assert!(problem.starts_with(place) && problem.lines().count() == 1, "{problem}");
    }
}

#[test]
fn header_values_are_bounded() {
    let value = |bytes: usize| header(&format!("'{}'", "x".repeat(bytes)), None);
    assert!(value(8192).is_ok());
    assert!(value(8193).unwrap_err().contains("has 8193 bytes, but must have at most 8192"));
}
