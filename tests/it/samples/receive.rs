//! The receivers of examples/receive/, in three languages, with a worker and `leadhook publish`. Each accepts a signed
//! delivery, stores it once however often it arrives, and refuses everything else.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command},
    time::{SystemTime, UNIX_EPOCH},
};

use leadhook::{
    delivery::signature::{SigningSecret, sign},
    receiver::Received,
};
use tokio::net::TcpStream;

use super::path;
use crate::harness::{PATIENCE, World, eventually, receiver};

const OLD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const NEW: &str = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eDf3t3c29rZ2NfW1dTT0tHQz87NzMvKycjHxsXEw8LBwA==";
const STRANGE: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4";

/// Spaces, an escape, bytes beyond ASCII and a number that parsers write differently. A receiver refuses this event if
/// it verifies anything but the bytes as they arrived.
const ODD: &str = "{ \"event\" :\"lead.delivered\",  \"leadId\":\"lead_1\", \"submissionId\":\"sub_1\",\"campaignId\":\"ABC\",\n\
    \"status\":\"delivered\",\"timestamp\":\"2024-06-15T10:30:00Z\", \"data\":{\"name\":\"J\\u00f6hn \u{1f600}\",\"n\":1.0e2}  }";

#[tokio::test]
async fn the_receiver_in_python_takes_each_signed_delivery_once() {
    check("python3", |port| vec!["receive.py".to_owned(), port.to_string()]).await;
}

#[tokio::test]
async fn the_receiver_in_node_takes_each_signed_delivery_once() {
    check("node", |port| vec!["receive.mjs".to_owned(), port.to_string()]).await;
}

#[tokio::test]
async fn the_receiver_in_php_takes_each_signed_delivery_once() {
    check("php", |port| vec!["-S".to_owned(), format!("127.0.0.1:{port}"), "receive.php".to_owned()]).await;
}

/// A developer checks their own code with the example on the page.
#[test]
fn the_example_on_the_page_is_signed_as_a_worker_signs() {
    let page = fs::read_to_string(path("docs/how-to/receive.md")).expect("the page");
    let value = |part: &str| {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {part} | `"))?.strip_suffix("` |"));
        row.unwrap_or_else(|| panic!("no {part} in the example"))
    };
    let signed = Signed::by(
        value("secret"),
        value("`webhook-id`"),
        value("`webhook-timestamp`").parse().expect("a number"),
        value("body"),
    );
    assert_eq!(value("`webhook-signature`"), signed.signatures);
}

async fn check(program: &str, arguments: fn(u16) -> Vec<String>) {
    let sample = Sample::start(program, arguments).await;
    // Gets the same event under another id. A worker signs its requests, which are replayed to the sample below.
    let twin = receiver("200").await;
    let world = World::new().await;
    let target = |name: &str, url: &str| {
        format!(
            "      - {{ name: {name}, url: \"{url}\", events: \"*\", retry_attempts: 1, signing_secrets: [{OLD}, {NEW}] }}\n"
        )
    };
    let targets = target("sample", &sample.url) + &target("twin", &twin.url());
    world.store(&format!("default_organization: acme\norganizations:\n  acme:\n    webhooks:\n{targets}"));
    let worker = world.worker(&[]).await;
    let file = world.directory.path().join("event.json");
    fs::write(&file, ODD).expect("the event");

    // Without a message id, equal bytes are the same event: the second one is a duplicate of the first.
    for times in [1, 2] {
        let published = world.command().args(["publish", "--no-message-id"]).arg(&file).output().expect("leadhook");
        assert!(published.status.success(), "{published:?}");
        eventually("both targets have answered", async || {
            let settled = worker.metric("leadhook_jobs_total", "").await;
            (settled >= f64::from(2 * times)).then_some(())
        })
        .await;
    }
    worker.metric_is("leadhook_jobs_total", "delivered", 4.0).await;
    worker.stop().await;
    let stored = sample.stored();
    assert_eq!(stored.values().collect::<Vec<_>>(), [ODD], "not one event, stored byte for byte");
    let id = stored.keys().next().expect("checked above");
    assert_eq!((sample.said("new", id), sample.said("again", id)), (1, 1), "{}", sample.log());

    let twins = twin.wait_for(2, PATIENCE).await.expect("the twin's requests");
    let (real, body) = (Signed::of(&twins[0]), String::from_utf8(twins[0].body.to_vec()).expect("text"));
    let hostile = [
        ("a tampered body", real.clone(), body.replace("lead_1", "lead_2")),
        ("a body that was parsed and written again", real.clone(), body.replace("{ ", "{")),
        ("an empty body", real.clone(), String::new()),
        ("another id", Signed { id: "wh_0123456789abcdef".to_owned(), ..real.clone() }, body.clone()),
        ("another time", Signed { timestamp: real.timestamp + 1, ..real.clone() }, body.clone()),
        ("no signature", Signed { signatures: String::new(), ..real.clone() }, body.clone()),
        ("half a signature", Signed { signatures: real.signatures[..20].to_owned(), ..real.clone() }, body.clone()),
        ("a stale timestamp", Signed::by(NEW, &real.id, now() - 600, &body), body.clone()),
        ("a timestamp of tomorrow", Signed::by(NEW, &real.id, now() + 86_400, &body), body.clone()),
        ("the secret of another", Signed::by(STRANGE, &real.id, now(), &body), body.clone()),
        ("an id that is a path", Signed::by(NEW, "../escaped", now(), &body), body.clone()),
    ];
    for (what, signed, body) in hostile {
        assert_eq!(sample.post(&signed, &body).await, 401, "{what}");
    }
    assert_eq!(sample.stored().len(), 1, "a refused request was stored: {}", sample.log());

    assert_eq!(sample.post(&real, &body).await, 204, "a request that the worker signed");
    assert_eq!(sample.post(&real, &body).await, 204, "the same request again");
    assert_eq!(sample.stored().get(&real.id).map(String::as_str), Some(ODD));
    assert_eq!((sample.said("new", &real.id), sample.said("again", &real.id)), (1, 1), "{}", sample.log());
}

/// A receiver of examples/receive/ as a process; killed when dropped.
struct Sample {
    child: Child,
    url: String,
    directory: tempfile::TempDir,
}

impl Sample {
    async fn start(program: &str, arguments: fn(u16) -> Vec<String>) -> Sample {
        // Another process may take the free port in the next moment. Then the sample ends, and another port is tried.
        for _ in 0..10 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            let port = free.expect("a free port").port();
            let directory = tempfile::tempdir().expect("a temporary directory");
            let log = File::create(directory.path().join("log")).expect("a log file");
            let mut command = Command::new(program);
            command.args(arguments(port)).current_dir(path("examples/receive"));
            command.env("WEBHOOK_SECRET", NEW).env("INBOX", directory.path().join("inbox"));
            command.stdout(log.try_clone().expect("a handle")).stderr(log);
            let child = command.spawn().unwrap_or_else(|error| {
                panic!("cannot start {program}: {error}; scripts/languages.sh installs the languages of the samples")
            });
            let mut sample = Sample { child, url: format!("http://127.0.0.1:{port}/hooks"), directory };
            let listens = eventually("the sample listens, or has ended", async || {
                let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok();
                let ended = sample.child.try_wait().expect("wait").is_some();
                (listens || ended).then_some(!ended)
            });
            if listens.await {
                return sample;
            }
        }
        panic!("{program} does not listen on any port");
    }

    /// Sends a request, and returns the status of the answer.
    async fn post(&self, signed: &Signed, body: &str) -> u16 {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client
            .post(&self.url)
            .header("webhook-id", &signed.id)
            .header("webhook-timestamp", signed.timestamp.to_string())
            .header("webhook-signature", &signed.signatures)
            .header("content-type", "application/json")
            .body(body.to_owned());
        request.send().await.expect("an answer").status().as_u16()
    }

    /// Returns the ids and bodies in its inbox, and checks that only the log is beside the inbox.
    fn stored(&self) -> BTreeMap<String, String> {
        let entries = |path: PathBuf| -> Vec<PathBuf> {
            fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
        };
        assert_eq!(entries(self.directory.path().to_owned()).len(), 2, "other files than the inbox and the log");
        let name = |path: &PathBuf| path.file_stem().expect("a name").to_str().expect("text").to_owned();
        let files = entries(self.directory.path().join("inbox")).into_iter();
        files.map(|file| (name(&file), fs::read_to_string(&file).expect("a body"))).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the log")
    }

    /// Counts how often it has logged this word for an id.
    fn said(&self, word: &str, id: &str) -> usize {
        self.log().lines().filter(|line| line.ends_with(&format!("{word} {id}"))).count()
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The headers of a signature.
#[derive(Clone)]
struct Signed {
    id: String,
    timestamp: u64,
    signatures: String,
}

impl Signed {
    fn of(request: &Received) -> Signed {
        let header = |name: &str| request.header(name).expect("a header").to_owned();
        let timestamp = header("webhook-timestamp").parse().expect("a number");
        Signed { id: header("webhook-id"), timestamp, signatures: header("webhook-signature") }
    }

    fn by(secret: &str, id: &str, timestamp: u64, body: &str) -> Signed {
        let secrets = [SigningSecret::parse(secret).expect("a secret")];
        Signed { id: id.to_owned(), timestamp, signatures: sign(&secrets, id, timestamp, body.as_bytes()) }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}
