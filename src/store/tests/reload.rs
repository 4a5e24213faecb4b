use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    event::EventKind,
    store::{LiveStore, ReloadReport, Resolution},
};

fn text(url: &str) -> String {
    format!("organizations: {{ acme: {{ webhook: {{ url: '{url}', events: '*' }} }} }}")
}

fn open(path: &Path) -> Arc<LiveStore> {
    Arc::new(LiveStore::open_with(path.to_owned(), &settings(None), ENVIRONMENT).unwrap())
}

fn url(store: &LiveStore) -> String {
    match store.current().resolve("ABC", Some("acme"), EventKind::Queued) {
        Resolution::Targets(targets) => targets[0].url.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broken_store_is_refused_whole_and_the_last_good_one_stays() {
    let directory = directory(&[("s.yaml", &text("https://one.example"))]);
    let live = open(directory.path());
    let before = live.status();
    assert_eq!(before.refused, None);
    assert_eq!((before.organizations, before.campaigns), (1, 0));

    fs::write(directory.path().join("s.yaml"), text("https://two.example").replace("'*'", "[lead.lost]")).unwrap();
    assert!(matches!(live.reload(), ReloadReport::Refused(_)));
    assert_eq!(url(&live), "https://one.example/");
    let refused = live.status();
    assert_eq!((&refused.revision, refused.loaded_at), (&before.revision, before.loaded_at));
    assert!(live.changed().is_none(), "the same broken contents count as unchanged");
    assert!(refused.refused.unwrap().contains("organizations.acme.webhook.events[0]: is not an event"));

    fs::write(directory.path().join("s.yaml"), text("https://two.example")).unwrap();
    assert!(matches!(live.reload(), ReloadReport::Loaded(_)));
    assert_eq!(url(&live), "https://two.example/");
    assert_eq!(live.status().refused, None);
    assert_ne!(live.status().revision, before.revision);
}

/// Replaces a file as a whole, as careful editors do, so that no reader sees half of it.
fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let new = path.with_file_name(".new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A watched store, and the reports about it.
struct Watched {
    live: Arc<LiveStore>,
    reports: mpsc::UnboundedReceiver<ReloadReport>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    fn start(live: Arc<LiveStore>) -> Watched {
        let (send, reports) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let watch = live.clone().watch(shutdown.clone(), move |report| drop(send.send(report.clone())));
        Watched { live, reports, shutdown, task: tokio::spawn(watch) }
    }

    async fn report(&mut self) -> ReloadReport {
        timeout(Duration::from_secs(30), self.reports.recv()).await.expect("a reload within 30 s").unwrap()
    }

    async fn loaded(&mut self, expected: &str) {
        match self.report().await {
            ReloadReport::Loaded(_) => assert_eq!(url(&self.live), expected),
            ReloadReport::Refused(problems) => panic!("{problems}"),
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        assert!(self.reports.recv().await.is_none(), "one report for each change");
    }
}

#[tokio::test]
async fn changes_are_seen_and_each_is_reported_once() {
    let directory = directory(&[("s.yaml", &text("https://one.example"))]);
    let path = directory.path().join("s.yaml");
    let mut watched = Watched::start(open(directory.path()));

    replace(&path, text("https://two.example"));
    watched.loaded("https://two.example/").await;

    replace(&path, text("https://three.example"));
    watched.loaded("https://three.example/").await;

    replace(&path, "organizations: [");
    assert!(matches!(watched.report().await, ReloadReport::Refused(_)));
    assert_eq!(url(&watched.live), "https://three.example/");

    // After a refusal, even the contents from before are a change.
    replace(&path, text("https://three.example"));
    watched.loaded("https://three.example/").await;
    assert_eq!(watched.live.status().refused, None);

    fs::remove_file(&path).unwrap();
    assert!(matches!(watched.report().await, ReloadReport::Refused(_)));
    let toml = "[organizations.acme.webhook]\nurl = 'https://four.example'\nevents = '*'\n";
    replace(&directory.path().join("t.toml"), toml);
    watched.loaded("https://four.example/").await;
    watched.stop().await;
}

#[tokio::test]
async fn a_secret_file_belongs_to_the_store() {
    let secrets = directory(&[("token", "one")]);
    let header = "events: '*', headers: { X: { file: token } }";
    let store = directory(&[("s.yaml", &text("https://one.example").replace("events: '*'", header))]);
    let settings = settings(Some(secrets.path().to_owned()));
    let live = LiveStore::open_with(store.path().to_owned(), &settings, ENVIRONMENT).unwrap();
    let mut watched = Watched::start(Arc::new(live));
    replace(&secrets.path().join("token"), "two");
    watched.loaded("https://one.example/").await;
    fs::remove_file(secrets.path().join("token")).unwrap();
    assert!(matches!(watched.report().await, ReloadReport::Refused(_)));
    replace(&secrets.path().join("token"), "three");
    watched.loaded("https://one.example/").await;
    watched.stop().await;
}

/// Links as Kubernetes makes them: `s.yaml -> ..data/s.yaml`, `..data -> ..2024_1`. An update makes `..2024_2` and
/// swaps `..data`.
#[cfg(unix)]
#[tokio::test]
async fn the_link_swap_of_a_config_map_is_seen() {
    use std::os::unix::fs::symlink;
    let mount = tempfile::tempdir().unwrap();
    let revision = |name: &str, url: &str| {
        fs::create_dir(mount.path().join(name)).unwrap();
        fs::write(mount.path().join(name).join("s.yaml"), text(url)).unwrap();
    };
    revision("..2024_1", "https://one.example");
    symlink("..2024_1", mount.path().join("..data")).unwrap();
    symlink("..data/s.yaml", mount.path().join("s.yaml")).unwrap();

    // The store may be the directory or the file: both follow the swap.
    let mut directory = Watched::start(open(mount.path()));
    let mut file = Watched::start(open(&mount.path().join("s.yaml")));
    assert_eq!(url(&directory.live), "https://one.example/");

    revision("..2024_2", "https://two.example");
    symlink("..2024_2", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    fs::remove_dir_all(mount.path().join("..2024_1")).unwrap();
    directory.loaded("https://two.example/").await;
    file.loaded("https://two.example/").await;
    directory.stop().await;
    file.stop().await;
}

/// A signal reaches a whole process, so this test runs again, alone, in a child process that signals itself.
#[cfg(unix)]
#[test]
fn sighup_reloads_even_what_has_not_changed() {
    const CHILD: &str = "LEADHOOK_TEST_SIGHUP_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(signal_self());
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::reload::sighup_reloads_even_what_has_not_changed"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[cfg(unix)]
async fn signal_self() {
    use tokio::signal::unix::{SignalKind, signal};
    // From here on the signal does not end the process, even if it arrives before the watch listens.
    let _heard = signal(SignalKind::hangup()).unwrap();
    let directory = directory(&[("s.yaml", &text("https://one.example"))]);
    let mut watched = Watched::start(open(directory.path()));
    let pid = std::process::id().to_string();
    let report = timeout(Duration::from_secs(30), async {
        loop {
            std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap();
            if let Ok(report) = timeout(Duration::from_millis(500), watched.reports.recv()).await {
                return report.unwrap();
            }
        }
    });
    assert!(matches!(report.await.unwrap(), ReloadReport::Loaded(_)));
}
