//! Credentials that change while a process runs: the broker's password, signing secrets, the console's users.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use reqwest::{Method, StatusCode};

use crate::{
    console,
    harness::{PATIENCE, Worker, World, event, eventually, receiver},
    node::Node,
};

const ALL: &str = r#"{"configure":".*","write":".*","read":".*"}"#;

/// Replaces a file by a complete new one.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Starts a worker that reads its broker from a file, and returns both.
async fn worker_with(world: &World, urls: &str) -> (Worker, PathBuf) {
    let path = world.directory.path().join("urls");
    replace(&path, urls);
    let file = ("LEADHOOK__AMQP__URLS_FILE", path.to_str().unwrap());
    (world.worker(&[("LEADHOOK__AMQP__URLS", ""), file]).await, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_of_the_broker_needs_no_restart() {
    let node = Node::shared();
    let mut world = World::new().await;
    let user = format!("rotates-{}", world.vhost());
    let old = node.user(&user, world.vhost(), ALL).await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let (worker, urls) = worker_with(&world, &old).await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();

    node.manage(Method::PUT, &format!("users/{user}"), r#"{"password":"hunter2","tags":""}"#).await;
    node.close_connections(world.vhost());
    world.reconnect().await;
    let broker = old.rsplit('@').next().unwrap().split('/').next().unwrap();
    let refused = format!("user {user} is refused by broker {broker}: ACCESS_REFUSED");
    let report = eventually("all connections are refused", async || {
        let (status, report) = worker.get("/readyz").await?;
        (status == 503 && report.matches(&refused).count() == 3).then_some(report)
    })
    .await;
    assert!(worker.log().contains(&refused), "{}", worker.log());

    let new = old.replace(":secret@", ":hunter2@");
    replace(&urls, &format!("{new}\n"));
    world.publish(event("ABC", 2).as_bytes()).await;
    receiver.wait_for(2, PATIENCE).await.unwrap();
    worker.ready().await;
    let log = worker.log();
    assert!(log.contains("the file has new content"), "{log}");
    for shown in [report, log] {
        assert!(!shown.contains("hunter2") && !shown.contains(":secret@"), "{shown}");
    }

    // A tool reads the same file.
    let mut tool = world.command();
    tool.env("LEADHOOK__AMQP__URLS", "").env("LEADHOOK__AMQP__URLS_FILE", &urls).args(["failed", "list"]);
    let done = tool.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    worker.stop().await;
    node.manage(Method::DELETE, &format!("users/{user}"), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_keeps_its_last_good_content_and_readiness_says_so() {
    let node = Node::shared();
    let mut world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let (worker, urls) = worker_with(&world, &world.url).await;
    let warned = async |text: &str| {
        eventually("the warning", async || worker.get("/readyz").await.filter(|(_, report)| report.contains(text)))
            .await
    };
    replace(&urls, "amqp://u:p@host\nhunter2");
    let told = format!("cannot use the file of amqp.urls_file: {}:2: is not a broker's URL", urls.display());
    let (status, report) = warned(&told).await;
    assert!(status == 200 && !report.contains("hunter2"), "{status} {report}");
    std::fs::remove_file(&urls).unwrap();
    warned(&format!("{}: there is no such file", urls.display())).await;

    let reconnected = async || worker.metric("leadhook_reconnects_total", "").await;
    let before = reconnected().await;
    node.close_connections(world.vhost());
    world.reconnect().await;
    eventually("both connections again", async || (reconnected().await >= before + 2.0).then_some(())).await;
    worker.ready().await;
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();

    replace(&urls, &world.url);
    eventually("no warning", async || {
        worker.get("/readyz").await.filter(|(_, report)| !report.contains("amqp.urls_file"))
    })
    .await;
    let log = worker.log();
    assert_eq!(log.matches(":2: is not a broker's URL").count(), 1, "not once for the same content: {log}");
    worker.stop().await;
}

/// Kubernetes mounts a secret as `name -> ..data/name`, `..data -> ..1`, and swaps `..data`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_swap_of_a_signing_secret_is_followed() {
    const OLD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const NEW: &str = "whsec_//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eDf3t3c29rZ2NfW1dTT0tHQz87NzMvKycjHxsXEw8LBwA==";
    let world = World::new().await;
    let mount = world.directory.path().join("secrets");
    let version = |name: &str, secret: &str| {
        std::fs::create_dir_all(mount.join(name)).unwrap();
        std::fs::write(mount.join(name).join("key"), secret).unwrap();
        symlink(name, mount.join("..next")).unwrap();
        std::fs::rename(mount.join("..next"), mount.join("..data")).unwrap();
    };
    version("..1", OLD);
    symlink("..data/key", mount.join("key")).unwrap();
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "signing_secrets: [{ file: key }]");
    let worker = world.worker(&[("LEADHOOK__SECRETS__DIRECTORY", mount.to_str().unwrap())]).await;
    let signed_with = |secret: &str, n: usize| {
        let one = &receiver.received()[n];
        standardwebhooks::Webhook::new(secret).unwrap().verify(&one.body, &one.headers).is_ok()
    };
    world.publish(event("ABC", 1).as_bytes()).await;
    receiver.wait_for(1, PATIENCE).await.unwrap();
    assert!(signed_with(OLD, 0));

    let loads = worker.log().matches("webhook store loaded").count();
    version("..2", NEW);
    std::fs::remove_dir_all(mount.join("..1")).unwrap();
    eventually("the reload", async || (worker.log().matches("webhook store loaded").count() > loads).then_some(()))
        .await;
    world.publish(event("ABC", 2).as_bytes()).await;
    receiver.wait_for(2, PATIENCE).await.unwrap();
    assert!(signed_with(NEW, 1) && !signed_with(OLD, 1));
    worker.stop().await;
}

#[tokio::test]
async fn a_secret_of_the_console_changes_at_once() {
    let world = World::new().await;
    world.simple_store("http://127.0.0.1:1", "");
    let path = world.directory.path().join("users");
    replace(&path, "anna:act:the-first-secret-1\nben:read:another-secret-22\n");
    let mut command = console::command(&world);
    command.env("LEADHOOK__CONSOLE__CREDENTIALS_FILE", &path);
    let console = console::started(&world, command).await;
    let status = async |who: &str| console.get(who, "/").await.status();
    assert_eq!(status("anna:the-first-secret-1").await, StatusCode::OK);

    replace(&path, "anna:act:the-second-secret\n");
    assert_eq!(status("anna:the-first-secret-1").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("ben:another-secret-22").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("anna:the-second-secret").await, StatusCode::OK);

    // An empty file does not open the console.
    replace(&path, "\n");
    assert_eq!(status("anna:the-second-secret").await, StatusCode::OK);
    assert_eq!(status("").await, StatusCode::UNAUTHORIZED);
    let log = console.process.log();
    assert!(log.contains("holds no entry") && !log.contains("the-second-secret"), "{log}");
}
