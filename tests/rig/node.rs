//! Private RabbitMQ nodes: one shared by the tests that leave it alone, and one each for those that kill it.
//!
//! `scripts/rabbitmq.sh` starts them on loopback with names, ports and data of their own, and kills them when this
//! process ends, however it ends.

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

use super::harness::{asked_every, http_client};

static SHARED: LazyLock<Node> = LazyLock::new(|| Node::launch(true));

/// Nodes that tests have had to themselves and that others may have now.
static IDLE: Mutex<Vec<Node>> = Mutex::new(Vec::new());

/// How often the test nodes try a dead letter again that found no home, in milliseconds. The broker's own pace is 180 s.
const DEAD_LETTER_RETRY: &str = "2000";

/// One node.
pub struct Node {
    path: PathBuf,
    /// Unless it is a member of a cluster, which removes all its members.
    _directory: Option<tempfile::TempDir>,
    url: String,
    management_url: String,
    /// Whether other tests use it at the same time or afterwards, so that each has to remove its vhost.
    is_reused: bool,
}

/// A vhost with its AMQP URL. On a node that others use it is deleted when dropped: thirty quorum queues cost a node 0.4 % of a
/// core although nothing happens on them, and some hundred tests would add up.
pub struct Vhost {
    pub url: String,
    /// The management API's address of it, where it is to be deleted.
    address: Option<String>,
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if let Some(address) = self.address.take() {
            let _ = DELETED.send(address);
        }
    }
}

/// Deletes vhosts, one after the other, in a thread of its own: a test does not wait for it.
static DELETED: LazyLock<Sender<String>> = LazyLock::new(|| {
    let (sender, addresses) = channel::<String>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for address in addresses {
            // A node that has been killed meanwhile keeps it.
            let _ = runtime.block_on(http_client().delete(address).send());
        }
    });
    sender
});

/// A node that one test has to itself. The next such test takes it over, unless this one has failed.
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

impl Node {
    /// The node that tests share. Each takes a vhost of its own; none stops it.
    pub fn shared() -> &'static Node {
        &SHARED
    }

    /// A node for a test that stops, kills or blocks it, and leaves it running.
    pub fn private() -> Private {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Private(Some(idle.unwrap_or_else(|| Node::launch(true))))
    }

    /// A node that ends with its test.
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

    /// A fresh vhost.
    pub async fn vhost(&self, name: &str) -> Vhost {
        self.manage(Method::PUT, &format!("vhosts/{name}"), "").await;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.manage(Method::PUT, &format!("permissions/{name}/guest"), all).await;
        let address = self.is_reused.then(|| format!("{}/api/vhosts/{name}", self.management_url));
        Vhost { url: self.url(name), address }
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
        let request =
            http_client().request(method, &url).header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await.expect("the management API");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    /// Writes the names of young queues to disk. A RabbitMQ 3.10 that is killed within seconds of a queue's declaration has
    /// forgotten which log belongs to it: the queue comes back empty and never elects a leader. Queues in use are older.
    pub fn settle(&self) {
        self.eval("[dets:sync(Table) || Table <- dets:all()].");
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

    /// Begins or ends an alarm for want of memory. (Not by `rabbitmqctl`, which takes seconds beside other tests.)
    pub fn low_on_memory(&self, low: bool) {
        let limit = if low { "{absolute, 1}" } else { "0.4" };
        self.eval(&format!("vm_memory_monitor:set_vm_memory_high_watermark({limit})."));
    }

    /// The same for want of disk.
    pub fn low_on_disk(&self, low: bool) {
        let limit = if low { "100000000000000" } else { "50000000" };
        self.eval(&format!("rabbit_disk_monitor:set_disk_free_limit({limit})."));
    }

    /// Evaluates Erlang on the node: what it prints, then its value.
    pub fn eval(&self, expression: &str) -> String {
        String::from_utf8_lossy(&script(&["eval", self.path(), expression]).stdout).into_owned()
    }

    /// The broker closes all connections of a vhost.
    pub fn close_connections(&self, vhost: &str) {
        self.eval(&format!(
            r#"[rabbit_networking:close_connection(Pid, "a test") ||
                Connection <- rabbit_connection_tracking:list(<<"{vhost}">>), Pid <- tuple_to_list(Connection), is_pid(Pid)], []."#
        ));
    }

    /// What `rabbitmqctl` says.
    pub fn ctl_said(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|error| panic!("rabbitmqctl {arguments:?}: {error}"))
    }

    /// The same, for a node that may be away.
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = run(&[&["ctl", self.path()], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// How many messages each queue of a vhost holds, asked of their leaders, which know it exactly. `rabbitmqctl list_queues`
    /// shows what it was up to five seconds ago. In the order of the names, so that delay queues come before what they
    /// dead-letter to: nothing moves on unseen while no worker runs.
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

    /// The first part of its Erlang name.
    fn name(&self) -> String {
        let told = std::fs::read_to_string(self.path.join("node")).expect("what the script noted");
        told.lines().find_map(|line| line.strip_prefix("name=")).expect("a name").to_owned()
    }

    /// Its AMQP URL, with another vhost.
    pub fn url(&self, vhost: &str) -> String {
        self.url.replace("%2f", vhost)
    }

    /// Cuts a member off from its cluster.
    pub fn partition(&self) {
        script(&["partition", self.path()]);
    }

    /// Undoes that.
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
    /// Starts it.
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

    /// The member that leads a queue.
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

    /// Writes the names of young queues to disk, on each member: see [`Node::settle`].
    pub fn settle(&self) {
        self.nodes.iter().for_each(Node::settle);
    }

    /// Waits until a member sees all three, and a replica of each queue on each of them.
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

/// Starts what ends with this process; a way to ask for what was said of it.
fn launch(command: &str, directory: &Path) -> impl Fn(&str) -> String + use<> {
    let owner = std::process::id().to_string();
    let path = directory.to_str().expect("UTF-8");
    // Rates are for people, and cost each declaration and each queue.
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
