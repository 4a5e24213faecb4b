//! Private RabbitMQ nodes: one that most tests share, and one for each test that kills or blocks its node.
//!
//! `scripts/rabbitmq.sh` starts them on loopback with their own names, ports and data. It kills them when this process
//! ends, however it ends.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        LazyLock, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use reqwest::Method;

use super::harness::asked_every;

static SHARED: LazyLock<Node> = LazyLock::new(|| Node::launch(true));

/// Private nodes whose tests have ended, ready for the next test.
static IDLE: Mutex<Vec<Node>> = Mutex::new(Vec::new());

/// How often test nodes retry a dead letter that could not be routed, in milliseconds. The broker's default is 180 s.
const DEAD_LETTER_RETRY: &str = "2000";

/// One node.
pub struct Node {
    path: PathBuf,
    /// The data directory. `None` for a member of a cluster, which removes all members.
    _directory: Option<tempfile::TempDir>,
    url: String,
    management_url: String,
    /// Whether other tests use it at the same time or afterwards, so that each must remove its vhost.
    is_reused: bool,
}

/// A vhost with its AMQP URL. On a reused node it is deleted when dropped. Thirty idle quorum queues take 0.4 % of a
/// core, and the queues of some hundred tests would add up.
pub struct Vhost {
    pub url: String,
    /// Its address in the management API, if it is to be deleted.
    address: Option<String>,
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if let Some(address) = self.address.take() {
            let _ = DELETED.send(address);
        }
    }
}

/// Deletes vhosts one by one in its own thread, so that a test does not wait for it.
static DELETED: LazyLock<Sender<String>> = LazyLock::new(|| {
    let (sender, addresses) = channel::<String>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for address in addresses {
            // This fails harmlessly if the node has been killed meanwhile.
            let _ = runtime.block_on(http_client().delete(address).send());
        }
    });
    sender
});

/// A node that one test has to itself. The next such test reuses it, unless this test has failed.
pub struct Private(Option<Node>);

impl Deref for Private {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0.as_ref().expect("a node until it is dropped")
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.0.take());
        }
    }
}

/// Returns the client for all questions over HTTP. It is built once, because building it reads the machine's
/// certificates. It keeps no connections, because each test has its own runtime.
pub fn http_client() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> =
        LazyLock::new(|| reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client"));
    &CLIENT
}

impl Node {
    /// Returns the node that tests share. Each creates its own vhost, and none stops the node.
    pub fn shared() -> &'static Node {
        &SHARED
    }

    /// Returns a node for a test that stops, kills or blocks it, and leaves it running.
    pub fn private() -> Private {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Private(Some(idle.unwrap_or_else(|| Node::launch(true))))
    }

    /// Starts a node that ends with its test.
    pub fn start() -> Node {
        Node::launch(false)
    }

    fn launch(is_reused: bool) -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let said = launch("start", directory.path());
        let path = directory.path().to_owned();
        let (url, management_url) = (said("url"), said("management_url"));
        Node { path, _directory: Some(directory), url, management_url, is_reused }
    }

    /// Creates a fresh vhost.
    pub async fn vhost(&self, name: &str) -> Vhost {
        self.manage(Method::PUT, &format!("vhosts/{name}"), "").await;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.manage(Method::PUT, &format!("permissions/{name}/guest"), all).await;
        let address = self.is_reused.then(|| format!("{}/api/vhosts/{name}", self.management_url));
        Vhost { url: self.url(name), address }
    }

    /// Creates a user with these permissions on a vhost, and returns the AMQP URL with it.
    pub async fn user(&self, name: &str, vhost: &str, permissions: &str) -> String {
        self.manage(Method::PUT, &format!("users/{name}"), r#"{"password":"secret","tags":""}"#).await;
        self.manage(Method::PUT, &format!("permissions/{vhost}/{name}"), permissions).await;
        self.url.replace("guest:guest", &format!("{name}:secret")).replace("%2f", vhost)
    }

    /// Returns the URL of the management API.
    pub fn management_url(&self) -> &str {
        &self.management_url
    }

    /// Calls the management API, and panics unless that succeeds.
    pub async fn manage(&self, method: Method, path: &str, body: &str) -> String {
        let url = format!("{}/api/{path}", self.management_url);
        let request =
            http_client().request(method, &url).header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.expect("the management API");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    /// Writes the names of new queues to disk. A RabbitMQ 3.10 that is killed within seconds of a queue's declaration
    /// forgets which log belongs to it. Then the queue comes back empty and never elects a leader. Queues in production
    /// are older.
    pub fn settle(&self) {
        self.eval("[dets:sync(Table) || Table <- dets:all()].");
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        script(&["kill", self.path()]);
    }

    /// Sends SIGSTOP: the node keeps its connections and does not answer.
    pub fn pause(&self) {
        script(&["pause", self.path()]);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        script(&["resume", self.path()]);
    }

    /// Stops it cleanly.
    pub fn stop(&self) {
        script(&["stop", self.path()]);
    }

    /// Starts it again with its data.
    pub fn start_again(&self) {
        script(&["again", self.path()]);
    }

    /// Begins or ends a memory alarm. This avoids `rabbitmqctl`, which takes seconds beside other tests.
    pub fn low_on_memory(&self, low: bool) {
        let limit = if low { "{absolute, 1}" } else { "0.4" };
        self.eval(&format!("vm_memory_monitor:set_vm_memory_high_watermark({limit})."));
    }

    /// Begins or ends a disk alarm.
    pub fn low_on_disk(&self, low: bool) {
        let limit = if low { "100000000000000" } else { "50000000" };
        self.eval(&format!("rabbit_disk_monitor:set_disk_free_limit({limit})."));
    }

    /// Evaluates Erlang on the node. Returns its output, then its value.
    pub fn eval(&self, expression: &str) -> String {
        String::from_utf8_lossy(&script(&["eval", self.path(), expression]).stdout).into_owned()
    }

    /// Makes the broker close all connections of a vhost.
    pub fn close_connections(&self, vhost: &str) {
        self.eval(&format!(
            r#"[rabbit_networking:close_connection(Pid, "a test") ||
                Connection <- rabbit_connection_tracking:list(<<"{vhost}">>), Pid <- tuple_to_list(Connection), is_pid(Pid)], []."#
        ));
    }

    /// Returns the output of `rabbitmqctl`, and panics if that fails.
    pub fn ctl_said(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("rabbitmqctl {arguments:?}: {error}"))
    }

    /// The same for a node that may be down.
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = run(&[&["ctl", self.path()], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Counts the messages of each queue of a vhost. It asks the leaders, which know the exact number, while
    /// `rabbitmqctl list_queues` is up to five seconds late. The queues are in the order of their names: delay queues
    /// come before the queues that they dead-letter to. So no message moves unseen while no worker runs.
    pub fn held(&self, vhost: &str) -> Vec<(String, String)> {
        let ask = format!(
            r#"Name = fun (Q) -> element(4, amqqueue:get_name(Q)) end,
            Ask = fun (Leader) ->
                % What newer ones take is a name, and older ones a function.
                try ra:leader_query(Leader, fun rabbit_fifo:query_messages_total/1)
                catch error:function_clause -> ra:leader_query(Leader, {{rabbit_fifo, query_messages_total, []}})
                end
            end,
            Count = fun (Q) ->
                case amqqueue:get_type(Q) of
                    rabbit_quorum_queue ->
                        case Ask(amqqueue:get_pid(Q)) of
                            {{ok, {{_, N}}, _}} -> N;
                            _ -> unknown
                        end;
                    _ -> proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages]))
                end
            end,
            All = lists:sort([{{Name(Q), Q}} || Q <- rabbit_amqqueue:list(<<"{vhost}">>)]),
            lists:foreach(fun ({{N, Q}}) -> io:format("~ts ~p~n", [N, Count(Q)]) end, All)."#
        );
        let said = self.eval(&ask);
        let pairs = said.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, count)| (name.to_owned(), count.trim().to_owned())).collect()
    }

    /// Returns the first part of its Erlang name.
    fn name(&self) -> String {
        let told = std::fs::read_to_string(self.path.join("node")).expect("what the script noted");
        told.lines().find_map(|line| line.strip_prefix("name=")).expect("a name").to_owned()
    }

    /// Returns its AMQP URL, with another vhost.
    pub fn url(&self, vhost: &str) -> String {
        self.url.replace("%2f", vhost)
    }

    /// Cuts a member off from its cluster.
    pub fn partition(&self) {
        script(&["partition", self.path()]);
    }

    /// Reconnects the member.
    pub fn heal(&self) {
        script(&["heal", self.path()]);
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self._directory.is_some() {
            script(&["wipe", self.path()]);
        }
    }
}

/// Three nodes that are one cluster.
pub struct Cluster {
    pub nodes: [Node; 3],
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts the cluster.
    pub fn start() -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let said = launch("cluster", directory.path());
        let node = |n: usize| Node {
            path: directory.path().join(n.to_string()),
            _directory: None,
            url: said(&format!("url{n}")),
            management_url: said(&format!("management_url{n}")),
            is_reused: true,
        };
        Cluster { nodes: [node(1), node(2), node(3)], directory }
    }

    /// Returns the index of the member that leads a queue.
    pub fn leader(&self, vhost: &str, queue: &str) -> usize {
        for node in &self.nodes {
            let Ok(said) = node.try_ctl(&["list_queues", "-p", vhost, "--no-table-headers", "name", "leader"]) else {
                continue;
            };
            let line = said.lines().find_map(|line| line.strip_prefix(&format!("{queue}\t")).map(str::to_owned));
            if let Some(leader) = line {
                let is_of = |node: &&Node| leader.trim().starts_with(&format!("{}@", node.name()));
                return self.nodes.iter().position(|node| is_of(&node)).expect("a member");
            }
        }
        panic!("no member knows {queue}");
    }

    /// Writes the names of new queues to disk, on each member: see [`Node::settle`].
    pub fn settle(&self) {
        self.nodes.iter().for_each(Node::settle);
    }

    /// Waits until this member sees all three, and each queue has a replica on each.
    pub async fn rejoined(&self, member: usize, vhost: &str) {
        let node = &self.nodes[member];
        asked_every(Duration::from_secs(1), "a whole cluster", async || {
            node.try_ctl(&["await_online_nodes", "3", "--timeout", "30"]).ok()?;
            let said = node.try_ctl(&["list_queues", "-p", vhost, "--no-table-headers", "name", "online"]).ok()?;
            let mut queues = said.lines().filter(|line| line.starts_with("leadhook.")).peekable();
            queues.peek()?;
            queues.all(|queue| queue.matches('@').count() == self.nodes.len()).then_some(())
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        script(&["wipe", self.directory.path().to_str().expect("UTF-8")]);
    }
}

/// Starts a node or cluster that ends with this process. Returns a function that looks up the keys of the script's
/// output.
fn launch(command: &str, directory: &Path) -> impl Fn(&str) -> String + use<> {
    let owner = std::process::id().to_string();
    let path = directory.to_str().expect("UTF-8");
    // Rate statistics are for people, and cost time for each declaration and each queue.
    let tuned = ["--dead-letter-retry", DEAD_LETTER_RETRY, "--conf", "management.rates_mode = none"];
    let output = script(&[&[command, path, "--owner", &owner, "--management"][..], &tuned].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    move |key| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key} in {text:?}")).to_owned()
    }
}

fn run(arguments: &[&str]) -> Output {
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq.sh");
    Command::new(script).args(arguments).output().expect("scripts/rabbitmq.sh")
}

fn script(arguments: &[&str]) -> Output {
    let output = run(arguments);
    assert!(output.status.success(), "rabbitmq.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
