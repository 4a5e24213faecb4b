//! The permissions in docs/how-to/rabbitmq.md are enough, each for its purpose.

use lapin::BasicProperties;
use serde_json::json;

use super::read;
use crate::{
    harness::{PATIENCE, World, event, receiver},
    node::Node,
};

#[tokio::test]
async fn the_permissions_shown_are_enough() {
    let shown = read("docs/how-to/rabbitmq.md");
    let mut lines = shown.lines().filter(|line| line.starts_with("rabbitmqctl set_permissions"));
    let mut next = || permissions(lines.next().expect("five lines of permissions"));
    let (declaring, verifying, platform, support, engineers) = (next(), next(), next(), next(), next());

    let mut world = World::new().await;
    let vhost = world.url.rsplit('/').next().expect("a vhost").to_owned();
    let receiver = receiver("500,200").await;
    world.simple_store(&receiver.url(), "");
    let node = Node::shared();
    let user = async |name: &str, permissions: &str| node.user(&format!("{name}-{vhost}"), &vhost, permissions).await;
    let (declaring, verifying) = (user("declaring", &declaring).await, user("verifying", &verifying).await);
    let (platform, support) = (user("platform", &platform).await, user("support", &support).await);
    let engineers = user("engineers", &engineers).await;

    // The worker uses the world's URL first, then the platform.
    let mut run = async |worker: String, declare: &str, total: usize| {
        world.url = worker;
        let worker = world.worker(&[("LEADHOOK__TOPOLOGY__DECLARE", declare)]).await;
        world.url = platform.clone();
        world.reconnect().await;
        world
            .publish_to(
                "lead.events",
                "lead.delivered",
                event("ABC", total as u32).as_bytes(),
                BasicProperties::default(),
            )
            .await;
        receiver.wait_for(total, PATIENCE).await.expect("deliveries");
        worker.stop().await;
    };
    // The first delivery fails and is retried, and the second succeeds.
    run(declaring, "true", 2).await;
    run(verifying.clone(), "false", 3).await;
    // This one fails finally; support looks at it and replays it.
    receiver.set_script("410".parse().unwrap());
    run(verifying.clone(), "false", 4).await;
    world.url = support;
    for arguments in [&["failed", "list"][..], &["failed", "list", "--json"], &["failed", "replay", "--all", "--yes"]] {
        let output = world.command().args(arguments).output().expect("the command");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("wh_") | text.contains("replayed"),
            "{arguments:?}: {output:?}"
        );
    }
    let of_support = [&["deliveries"][..], &["failed", "stats"]];
    let of_engineers = [&["rejected", "list"][..], &["failed", "list"], &["deliveries"]];
    for (who, commands) in [(world.url.clone(), &of_support[..]), (engineers, &of_engineers)] {
        world.url = who;
        for arguments in commands {
            let output = world.command().args(*arguments).output().expect("the command");
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        }
    }
    receiver.set_script("200".parse().unwrap());
    world.url = verifying;
    let worker = world.worker(&[("LEADHOOK__TOPOLOGY__DECLARE", "false")]).await;
    receiver.wait_for(5, PATIENCE).await.expect("the replayed job");
    worker.stop().await;
}

/// Converts `configure`, `write` and `read` of a line to the form of the management API.
fn permissions(line: &str) -> String {
    let quoted: Vec<&str> = line.split('\'').skip(1).step_by(2).collect();
    let [configure, write, read] = quoted[..] else { panic!("{line}") };
    json!({ "configure": configure, "write": write, "read": read }).to_string()
}
