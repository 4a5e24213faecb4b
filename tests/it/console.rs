//! The web console over HTTP, on a real broker: every page and every action, for both roles and without sign-in.

mod acting;
mod door;
mod reading;
mod rejected;

use std::{process::Command, time::Duration};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

use crate::harness::{Worker, World, eventually, leadhook};

pub const ACT: &str = "anna:an-act-secret-0001";
pub const READ: &str = "ben:a-read-secret-0002";

/// A running console, and the client of the test.
pub struct Console {
    pub process: Worker,
    pub address: String,
    client: Client,
}

/// Starts a console with one user who acts and one who reads.
pub async fn console(world: &World, environment: &[(&str, &str)]) -> Console {
    let discarded = world.directory.path().to_str().unwrap().to_owned();
    let credentials = format!("{},{}", ACT.replacen(':', ":act:", 1), READ.replacen(':', ":read:", 1));
    let mut command = command(world);
    command
        .env("LEADHOOK__CONSOLE__CREDENTIALS", credentials)
        .env("LEADHOOK__CONSOLE__DISCARD_DIRECTORY", discarded)
        .envs(environment.iter().copied());
    started(world, command).await
}

/// Returns the command, without credentials.
pub fn command(world: &World) -> Command {
    let mut command = leadhook(&world.url);
    command
        .arg("console")
        .arg("--store")
        .arg(world.store_path())
        .env("LEADHOOK__CONSOLE__LISTEN", "127.0.0.1:0")
        .env("LEADHOOK__LOG__FORMAT", "json");
    command
}

pub async fn started(world: &World, command: Command) -> Console {
    let process = Worker::spawn(command, world.directory.path().join("console.log"));
    let address = eventually("the console listens", async || {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("console listening"))?.to_owned();
        let at = line.find("127.0.0.1:")?;
        Some(line[at..].chars().take_while(|c| *c != '"' && *c != ' ').collect::<String>())
    })
    .await;
    let policy = reqwest::redirect::Policy::none();
    let client = Client::builder().redirect(policy).timeout(Duration::from_secs(60)).build().expect("a client");
    Console { process, address, client }
}

impl Console {
    /// Builds a request of a user, or without credentials if `who` is empty.
    pub fn ask(&self, who: &str, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        match who.split_once(':') {
            Some((name, secret)) => request.basic_auth(name, Some(secret)),
            None => request,
        }
    }

    pub async fn get(&self, who: &str, path: &str) -> Response {
        self.ask(who, Method::GET, path).send().await.expect("an answer")
    }

    /// Gets a page that must exist.
    pub async fn page(&self, who: &str, path: &str) -> String {
        let answer = self.get(who, path).await;
        let status = answer.status();
        let text = answer.text().await.expect("a page");
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    /// Reads the form token of [`ACT`] from the page of a failed job.
    pub async fn token(&self, id: &str) -> String {
        self.token_of(ACT, id).await
    }

    /// Reads the form token of another user.
    pub async fn token_of(&self, who: &str, id: &str) -> String {
        let page = self.page(who, &format!("/failed/{id}")).await;
        page.split("name=\"token\" value=\"").nth(1).expect("a form").split('"').next().expect("a value").to_owned()
    }

    pub async fn post(&self, who: &str, path: &str, form: &[(&str, &str)]) -> Response {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.ask(who, Method::POST, path).body(body);
        request.header("content-type", "application/x-www-form-urlencoded").send().await.expect("an answer")
    }

    /// Starts an action, waits until it has ended, and returns the page with its result.
    pub async fn done(&self, path: &str, form: &[(&str, &str)]) -> String {
        let begun = self.post(ACT, path, form).await;
        assert_eq!(begun.status(), StatusCode::SEE_OTHER, "{}", begun.text().await.unwrap_or_default());
        let work = begun.headers()["location"].to_str().expect("a path").to_owned();
        eventually("the work has ended", async || {
            let page = self.page(ACT, &work).await;
            (!page.contains("data-running")).then_some(page)
        })
        .await
    }
}
