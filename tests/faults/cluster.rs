//! A cluster of three brokers: its members die, are cut off, and restart one after the other.
//!
//! Upstream and the worker know all three. Each test runs upstream and the receivers on their own threads, so that the
//! load continues while the test waits for a script.

use std::time::{Duration, SystemTime};

use crate::rig::{
    harness::{World, asked_every, eventually},
    load::{LARGE, SMALL, Scale},
    node::Cluster,
    proxy::Proxy,
    trial::Trial,
    upstream::Upstream,
};

/// One cluster, which a test hands on to the next, because two cores cannot run more than three brokers. A test that
/// fails discards it.
static CLUSTER: tokio::sync::Mutex<Option<Cluster>> = tokio::sync::Mutex::const_new(None);

/// Events that upstream publishes each second around a kill. On few cores, a debug build delivers fewer of them, and
/// the rest waits. The test prints both rates.
const RATE: u32 = 500;
/// Events confirmed before and after a kill: enough to fill everything that can be in flight.
const BEFORE: usize = 1_000;
const AFTER: usize = 500;

/// Deliveries resume within this time, without help.
const RESUMED_WITHIN: Duration = Duration::from_secs(30);

/// The same limit after a member was cut off.
const MOVED_WITHIN: Duration = Duration::from_secs(15);

/// Minimum time for which a member is cut off.
const CUT_OFF_FOR: Duration = Duration::from_secs(10);

/// Sends SIGKILL to the node that leads the jobs queue, which the worker is connected to, and then to its successor.
///
/// The time until deliveries resume counts from before the signal. It ends with the first POST of an event that
/// upstream first published after the node's death.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_leads_the_queues_is_killed_twice() {
    let mut kept = CLUSTER.lock().await;
    let cluster = kept.take().unwrap_or_else(Cluster::start);
    let mut trial = trial_of(&cluster, 0, LARGE).await;
    trial.start().await;
    cluster.settle();
    let mut leader = cluster.leader(trial.world.vhost(), "leadhook.jobs");
    // This worker declared the queues. The next one connects to the member that will die.
    trial.workers.remove(0).stop().await;
    let doors = Doors::of(&cluster, &trial.world).await;
    doors.lead_to(leader, &mut trial).await;
    for time in ["first", "second"] {
        trial.load_on(RATE);
        let before = rates(&trial, BEFORE).await;
        let killing = SystemTime::now();
        cluster.nodes[leader].kill();
        let published = trial.upstream.latest();
        let after = rates(&trial, AFTER).await;
        // Waiting deliveries go first. Without more load, the measured time is that of the failover and not that of a
        // long queue.
        trial.end_load().await;
        let resumed = resumed(&trial, killing, published).await;
        trial.member_broke(&format!("{time} leader killed: before {before}, after {after}, resumed in {resumed:?}"));
        assert!(resumed < RESUMED_WITHIN, "{}", trial.story.join("; "));
        cluster.nodes[leader].start_again();
        cluster.rejoined(leader, trial.world.vhost()).await;
        trial.world.reconnect().await;
        trial.idle().await;
        leader = cluster.leader(trial.world.vhost(), "leadhook.jobs");
    }
    trial.adds_up().await;
    *kept = Some(cluster);
}

/// The worker's member is cut off from the other two. Up to 4.2 it pauses and drops its connections; from 4.3 on it
/// keeps listening and confirms nothing. In both cases all connections of the worker move to another member before the
/// cut is healed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_cut_off_and_comes_back() {
    let mut kept = CLUSTER.lock().await;
    let cluster = kept.take().unwrap_or_else(Cluster::start);
    let mut trial = trial_of(&cluster, 0, SMALL).await;
    let doors = Doors::of(&cluster, &trial.world).await;
    doors.lead_to(2, &mut trial).await;
    cluster.settle();
    trial.load_on(30);
    trial.under_load(100).await;
    cluster.nodes[2].partition();
    // The tool needs a moment before it cuts, and ends soon after the cut.
    let (cut, published) = (SystemTime::now(), trial.upstream.latest());
    let resumed = resumed(&trial, cut, published).await;
    assert!(resumed < MOVED_WITHIN, "{resumed:?}");
    trial.workers[0].ready().await;
    tokio::time::sleep(CUT_OFF_FOR.saturating_sub(cut.elapsed().unwrap_or_default())).await;
    trial.member_broke(&format!("cut off for {:?}, resumed after {resumed:?}", cut.elapsed().unwrap_or_default()));
    cluster.nodes[2].heal();
    trial.member_broke("healed");
    cluster.rejoined(2, trial.world.vhost()).await;
    trial.under_load(100).await;
    trial.end_load().await;
    trial.adds_up().await;
    *kept = Some(cluster);
}

/// Each member is stopped cleanly and started again. The next one follows when the cluster is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_three_members_restart_one_after_the_other() {
    let mut kept = CLUSTER.lock().await;
    let cluster = kept.take().unwrap_or_else(Cluster::start);
    let mut trial = trial_of(&cluster, 0, SMALL).await;
    trial.start().await;
    trial.load_on(30);
    trial.under_load(50).await;
    for (member, node) in cluster.nodes.iter().enumerate() {
        node.stop();
        let (stopped, published) = (SystemTime::now(), trial.upstream.latest());
        let resumed = resumed(&trial, stopped, published).await;
        trial.member_broke(&format!("member {member} stopped, resumed after {resumed:?}"));
        assert!(resumed < RESUMED_WITHIN, "{}", trial.story.join("; "));
        node.start_again();
        cluster.rejoined(member, trial.world.vhost()).await;
    }
    trial.under_load(50).await;
    trial.end_load().await;
    trial.adds_up().await;
    *kept = Some(cluster);
}

/// Creates a trial that observes the cluster through member `eye`, with a worker and an upstream that know all three.
async fn trial_of<'a>(cluster: &'a Cluster, eye: usize, scale: Scale) -> Trial<'a> {
    let node = &cluster.nodes[eye];
    let world = World::on(node).await;
    // No connection uses this proxy, because here the brokers break and not the network.
    let proxy = Proxy::before(&world.url).await;
    let urls = urls(cluster, &world, eye);
    let upstream = Upstream::new(urls.clone());
    let mut trial = Trial::with(node, world, proxy, urls, upstream, fastrand::u64(..)).await;
    trial.scale = scale;
    trial
}

/// The same without load: no publish fails, so the worker can notice only that its queues are silent. Events that
/// upstream publishes later are delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_leaves_a_member_that_is_cut_off() {
    let mut kept = CLUSTER.lock().await;
    let cluster = kept.take().unwrap_or_else(Cluster::start);
    let mut trial = trial_of(&cluster, 0, SMALL).await;
    let doors = Doors::of(&cluster, &trial.world).await;
    doors.lead_to(1, &mut trial).await;
    cluster.settle();
    let accepted = doors.0[1].accepted();
    cluster.nodes[1].partition();
    let (cut, published) = (SystemTime::now(), trial.upstream.latest());
    trial.member_broke("cut off while idle");
    trial.load(200, 30);
    let resumed = resumed(&trial, cut, published).await;
    println!("resumed after {resumed:?}");
    assert!(resumed < MOVED_WITHIN, "{resumed:?}");
    trial.workers[0].ready().await;
    assert_eq!(doors.0[1].accepted(), accepted, "the worker reconnected to this member");
    cluster.nodes[1].heal();
    trial.member_broke("healed");
    cluster.rejoined(1, trial.world.vhost()).await;
    trial.adds_up().await;
    *kept = Some(cluster);
}

/// A proxy in front of each member that can turn connections away. A worker starts with any of its brokers, and a test
/// uses these to choose one.
struct Doors(Vec<Proxy>, Vec<String>);

impl Doors {
    async fn of(cluster: &Cluster, world: &World) -> Doors {
        let mut doors = Doors(Vec::new(), Vec::new());
        for url in urls(cluster, world, 0) {
            let door = Proxy::before(&url).await;
            doors.1.push(door.url(&url));
            doors.0.push(door);
        }
        doors
    }

    /// Starts a worker that is connected to this member and knows all of them.
    async fn lead_to(&self, member: usize, trial: &mut Trial<'_>) {
        trial.urls.clone_from(&self.1);
        (0..3).for_each(|n| self.0[n].down(n != member));
        trial.start().await;
        (0..3).for_each(|n| self.0[n].down(false));
    }
}

/// Returns the URLs of all three, beginning with member `first`.
fn urls(cluster: &Cluster, world: &World, first: usize) -> Vec<String> {
    (first..first + 3).map(|n| cluster.nodes[n % 3].url(world.vhost())).collect()
}

/// Waits until `events` more events are confirmed. Returns how many were published and delivered in a second meanwhile.
async fn rates(trial: &Trial<'_>, events: usize) -> String {
    let (published, posted) = (trial.upstream.count(), trial.post_count());
    let begun = std::time::Instant::now();
    eventually("confirms", async || (trial.upstream.count() >= published + events).then_some(())).await;
    let seconds = begun.elapsed().as_secs_f64();
    let rate = |now: usize, then: usize| ((now - then) as f64 / seconds) as usize;
    let (published, posted) = (rate(trial.upstream.count(), published), rate(trial.post_count(), posted));
    format!("{published} events/s confirmed and {posted} POSTs/s")
}

/// Waits for the first POST since `broken` of an event numbered above `published`. Returns the time from `broken` to
/// it.
async fn resumed(trial: &Trial<'_>, broken: SystemTime, published: u32) -> Duration {
    asked_every(Duration::from_millis(100), "a delivery of a new event", async || {
        let posts = trial.posts();
        let new = posts.iter().filter(|post| post.at > broken && numbered(&post.body) > published);
        new.map(|post| post.at).min()?.duration_since(broken).ok()
    })
    .await
}

/// Reads the number of an event from its lead id.
fn numbered(body: &[u8]) -> u32 {
    let body = String::from_utf8_lossy(body);
    let digits = body.split_once("\"lead_").and_then(|(_, rest)| rest.split_once('"')).map(|(digits, _)| digits);
    digits.and_then(|digits| digits.parse().ok()).expect("a numbered lead")
}
