//! Private RabbitMQ nodes: one shared by the tests that leave it alone, and one each for those that kill it.
//!
//! `scripts/rabbitmq.sh` starts them on loopback with names, ports and data of their own, and kills them when this
//! process ends, however it ends.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use reqwest::Method;

static SHARED: LazyLock<Node> = LazyLock::new(Node::start);

/// One node.
pub struct Node {
    directory: tempfile::TempDir,
    url: String,
    management_url: String,
}

impl Node {
    /// The node that tests share. Each takes a vhost of its own; none stops it.
    pub fn shared() -> &'static Node {
        &SHARED
    }

    /// A node for a test that stops or kills it.
    pub fn start() -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let owner = std::process::id().to_string();
        let path = directory.path().to_str().expect("UTF-8");
        let output = script(&["start", path, "--owner", &owner, "--management"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{key} in {text:?} {output:?}")).to_owned()
        };
        Node { url: value("url="), management_url: value("management_url="), directory }
    }

    /// The AMQP URL of a fresh vhost.
    pub async fn vhost(&self, name: &str) -> String {
        self.manage(Method::PUT, &format!("vhosts/{name}"), "").await;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.manage(Method::PUT, &format!("permissions/{name}/guest"), all).await;
        self.url.replace("%2f", name)
    }

    /// A user with these permissions on a vhost; the AMQP URL with it.
    pub async fn user(&self, name: &str, vhost: &str, permissions: &str) -> String {
        self.manage(Method::PUT, &format!("users/{name}"), r#"{"password":"secret","tags":""}"#).await;
        self.manage(Method::PUT, &format!("permissions/{vhost}/{name}"), permissions).await;
        self.url.replace("guest:guest", &format!("{name}:secret")).replace("%2f", vhost)
    }

    /// The management API.
    pub fn management_url(&self) -> &str {
        &self.management_url
    }

    /// One call of the management API that must succeed.
    pub async fn manage(&self, method: Method, path: &str, body: &str) -> String {
        let url = format!("{}/api/{path}", self.management_url);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.request(method, &url).header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.expect("the management API");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    /// Writes the names of young queues to disk. A RabbitMQ 3.10 that is killed within seconds of a queue's declaration has
    /// forgotten which log belongs to it: the queue comes back empty and never elects a leader. Queues in use are older.
    pub fn settle(&self) {
        self.ctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        script(&["kill", self.path()]);
    }

    /// SIGSTOP: it is there and does not answer.
    pub fn pause(&self) {
        script(&["pause", self.path()]);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        script(&["resume", self.path()]);
    }

    /// An orderly stop.
    pub fn stop(&self) {
        script(&["stop", self.path()]);
    }

    /// Starts it again with its data.
    pub fn start_again(&self) {
        script(&["again", self.path()]);
    }

    /// `rabbitmqctl`.
    pub fn ctl(&self, arguments: &[&str]) {
        script(&[&["ctl", self.path()], arguments].concat());
    }

    /// What `rabbitmqctl` says.
    pub fn ctl_said(&self, arguments: &[&str]) -> String {
        let output = script(&[&["ctl", self.path()], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().expect("UTF-8")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        script(&["wipe", self.path()]);
    }
}

fn script(arguments: &[&str]) -> Output {
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq.sh");
    let output = Command::new(script).args(arguments).output().expect("scripts/rabbitmq.sh");
    assert!(output.status.success(), "rabbitmq.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
