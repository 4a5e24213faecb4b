//! Generates the parts of the reference pages that the code knows, as Markdown: commands, settings, ports, variables
//! and metrics. `make docs` writes them into `docs/reference/`, and a test compares the pages with them.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::{Arg, Command};

use crate::{cli, metrics, settings};

/// Returns every part with its name in the marks of the pages.
pub fn parts() -> [(&'static str, String); 5] {
    let root = cli::command();
    [
        ("commands", commands(&root)),
        ("settings", keys()),
        ("ports", ports(&root)),
        ("variables", variables(&root)),
        ("metrics", catalogue()),
    ]
}

/// Renders each command with its subcommands: help, usage, options, examples.
fn commands(root: &Command) -> String {
    let mut page = String::new();
    write_command(&mut page, root, 0);
    page
}

/// Writes one command and its subcommands. Headings are `##` for commands and `###` for subcommands.
fn write_command(page: &mut String, command: &Command, depth: usize) {
    let rows: Vec<_> = command.get_arguments().filter(|arg| is_shown(arg, depth)).map(argument).collect();
    if depth > 0 {
        let _ = write!(page, "\n{} `{}`\n", "#".repeat(depth + 1), name(command));
        if let Some(about) = command.get_long_about().or(command.get_about()) {
            let _ = write!(page, "\n{}\n", plain(&about.to_string()));
        }
        let usage = command.clone().render_usage().to_string();
        let _ = write!(page, "\n```text\n{}\n```\n", usage.trim_start_matches("Usage:").trim());
    } else if !rows.is_empty() {
        page.push_str("\n## Options of every command\n");
    }
    if !rows.is_empty() {
        let _ = write!(page, "\n{}", table(["argument", "effect"], rows));
    }
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()).filter(|_| depth > 0) {
        let _ = write!(page, "\n```text\n{}\n```\n", more.to_string().trim());
    }
    for subcommand in shown_subcommands(command) {
        write_command(page, subcommand, depth + 1);
    }
}

/// Returns the full name, such as `leadhook failed replay`.
fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or(command.get_name())
}

fn shown_subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help")
}

/// Returns whether to list an option. Options that a command shares with its subcommands are listed once, with the
/// command.
fn is_shown(arg: &Arg, depth: usize) -> bool {
    let is_known_to_all = matches!(arg.get_id().as_str(), "help" | "version");
    !arg.is_hide_set() && !is_known_to_all && (depth < 2 || !arg.is_global_set())
}

/// Returns how an argument is written, and its effect with everything that clap's own help adds.
fn argument(arg: &Arg) -> [String; 2] {
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let mut effect = arg.get_long_help().or(arg.get_help()).map(|help| plain(&help.to_string())).unwrap_or_default();
    if arg.get_action().takes_values() {
        let values: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        let defaults: Vec<_> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let environment = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        for (what, texts) in
            [("one of", values), ("default", defaults), ("environment", environment.into_iter().collect())]
        {
            if !texts.is_empty() {
                let _ = write!(effect, " [{what} {}]", texts.join(", "));
            }
        }
    }
    [format!("{short}`{arg}`"), effect]
}

/// Renders the settings, one table for each section.
fn keys() -> String {
    let mut page = String::new();
    let mut keys = settings::reference();
    while let Some(first) = keys.first() {
        let section = first.name.split('.').next().unwrap_or_default();
        let end = keys.iter().position(|key| !key.name.starts_with(&format!("{section}."))).unwrap_or(keys.len());
        let (these, rest) = keys.split_at(end);
        let rows = these.iter().map(|key| {
            let default = if key.default == "none" { "none".to_owned() } else { format!("`{}`", key.default) };
            [format!("`{}`", key.name), default, key.bounds.to_owned(), key.what.to_owned()]
        });
        let _ = write!(page, "\n### `{section}`\n\n{}", table(["key", "default", "range", "effect"], rows));
        keys = rest;
    }
    page
}

/// Renders the ports that Leadhook opens, with the setting or option of each.
fn ports(root: &Command) -> String {
    let of_settings = settings::reference().iter().filter(|key| key.name.ends_with(".listen")).filter_map(|key| {
        let port = key.default.trim_matches('"').rsplit_once(':')?.1;
        Some([format!("`{port}`"), format!("`{}`", key.name)])
    });
    let of_options = shown_subcommands(root).filter_map(|command| {
        let option = command.get_arguments().find(|arg| arg.get_long() == Some("port"))?;
        let port = option.get_default_values().first()?.to_string_lossy();
        Some([format!("`{port}`"), format!("`leadhook {} --port`", command.get_name())])
    });
    format!("\n{}", table(["default port", "setting or option"], of_settings.chain(of_options)))
}

/// Renders the environment variables that set an option, with the commands that have the option.
fn variables(root: &Command) -> String {
    let mut all = BTreeMap::new();
    gather_variables(&mut all, root, 0);
    let rows = all
        .into_iter()
        .map(|((variable, option), commands)| [format!("`{variable}`"), format!("`--{option}`"), commands.join(", ")]);
    format!("\n{}", table(["variable", "option", "commands"], rows))
}

fn gather_variables(all: &mut BTreeMap<(String, String), Vec<String>>, command: &Command, depth: usize) {
    for arg in command.get_arguments().filter(|arg| is_shown(arg, depth)) {
        if let (Some(variable), Some(option)) = (arg.get_env(), arg.get_long()) {
            let commands = if depth == 0 { "all".to_owned() } else { format!("`{}`", name(command)) };
            all.entry((variable.to_string_lossy().into_owned(), option.to_owned())).or_default().push(commands);
        }
    }
    for subcommand in shown_subcommands(command) {
        gather_variables(all, subcommand, depth + 1);
    }
}

/// Renders the metrics in the order of a scrape.
fn catalogue() -> String {
    let rows = metrics::catalogue().iter().map(|entry| {
        let labels: Vec<_> = entry.labels.iter().map(|label| format!("`{label}`")).collect();
        [format!("`{}`", entry.name), entry.kind.name().to_owned(), labels.join(", "), plain(entry.help)]
    });
    format!("\n{}", table(["metric", "kind", "labels", "value"], rows))
}

fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" "));
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    }
    table
}

/// Escapes help for Markdown, which would read text in angle brackets as a tag.
fn plain(help: &str) -> String {
    help.replace('<', "&lt;")
}
