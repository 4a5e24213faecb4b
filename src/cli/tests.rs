//! Tests of the help: every command and option has help, every example parses, and no help text is lost.

use std::path::Path;

use clap::{Command, CommandFactory, Parser};

use super::{
    Cli,
    output::{Exit, after_help},
};

/// Returns every command with its path, hidden commands included.
fn commands() -> Vec<(String, Command)> {
    fn gather(path: &str, command: &Command, all: &mut Vec<(String, Command)>) {
        all.push((path.to_owned(), command.clone()));
        for next in command.get_subcommands().filter(|next| next.get_name() != "help") {
            gather(&format!("{path} {}", next.get_name()), next, all);
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    gather("leadhook", &root, &mut all);
    all
}

fn long_help(command: &Command) -> String {
    command.clone().render_long_help().to_string()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
    assert!(commands().len() >= 30, "{}", commands().len());
}

#[test]
fn every_command_and_option_says_what_it_does() {
    let codes = after_help("", "");
    let (_, codes) = codes.split_once("Exit codes: ").unwrap();
    let codes: Vec<_> = codes.split(", ").filter(|code| !code.starts_with('1')).collect();
    assert_eq!(codes.len(), Exit::ALL.len() - 1);
    for (path, command) in commands() {
        assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{path} has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
        let end = command.get_after_help().unwrap_or_else(|| panic!("{path} has no examples")).to_string();
        assert!(end.contains("Examples:\n  "), "{path}: {end}");
        for code in &codes {
            assert!(end.contains(code), "{path} does not list exit code {code}: {end}");
        }
    }
}

#[test]
fn examples_can_be_typed() {
    for (path, command) in commands() {
        let end = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let (_, examples) = end.split_once("Examples:\n").unwrap();
        let mut of_this_command = false;
        for line in examples.lines().take_while(|line| !line.is_empty()) {
            let Some((_, arguments)) = line.split_once("leadhook ") else { continue };
            let words = std::iter::once("leadhook".to_owned()).chain(words(arguments));
            // The secret comes from the line before.
            let secret = line.contains("leadhook verify").then(|| "--secret=whsec_x".to_owned());
            let parsed = Cli::try_parse_from(words.chain(secret));
            assert!(
                parsed.is_ok(),
                "{path}: {line}: {}",
                parsed.err().map(|error| error.to_string()).unwrap_or_default()
            );
            of_this_command |= line.contains(&path) || path == "leadhook topology plan";
        }
        assert!(of_this_command, "{path} has no example of itself");
    }
}

/// Splits at blanks outside single quotes, as a shell does.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (number, part) in text.split('\'').enumerate() {
        for (index, word) in part.split(if number % 2 == 0 { ' ' } else { '\0' }).enumerate() {
            if index > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(word);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn no_text_that_was_written_for_the_help_is_lost() {
    let shown: String = commands().iter().map(|(_, command)| plain(&long_help(command))).collect();
    let mut sources = Vec::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli"), &mut sources);
    let mut paragraphs = 0;
    for source in &sources {
        for paragraph in written(source) {
            assert!(shown.contains(&plain(&paragraph)), "no help shows: {paragraph}");
            paragraphs += 1;
        }
    }
    assert!(paragraphs > 100, "only {paragraphs} paragraphs were found");
}

fn gather(directory: &Path, sources: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => gather(&path, sources),
            false => sources.push(std::fs::read_to_string(path).unwrap()),
        }
    }
}

/// Returns the paragraphs of doc comments on types from which clap builds the command line, and on their fields.
fn written(source: &str) -> Vec<String> {
    let makes_arguments = |line: &str| {
        line.starts_with("#[derive(")
            && ["Args", "Parser", "Subcommand", "ValueEnum"].iter().any(|name| line.contains(name))
    };
    let (mut paragraphs, mut paragraph, mut pending, mut inside) = (Vec::new(), String::new(), Vec::new(), false);
    for line in source.lines() {
        match line.trim_start().strip_prefix("///").map(str::trim) {
            Some("") => pending.push(std::mem::take(&mut paragraph)),
            Some(text) => paragraph = format!("{paragraph} {text}"),
            None => {
                pending.push(std::mem::take(&mut paragraph));
                inside = inside || makes_arguments(line);
                // A doc comment comes before the attributes of its item.
                if inside {
                    paragraphs.append(&mut pending);
                } else if !line.starts_with("#[") {
                    pending.clear();
                }
                inside = inside && !line.starts_with('}') && !line.ends_with("{}");
            }
        }
    }
    paragraphs.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

/// Removes blanks and the full stop at the end, because the help changes both.
fn plain(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[test]
fn colours_and_configuration_are_offered_where_they_act() {
    let has = |path: &str, option: &str| {
        let found = commands().into_iter().find(|(known, _)| known == path).unwrap();
        found.1.get_arguments().any(|argument| argument.get_long() == Some(option))
    };
    for path in ["leadhook check", "leadhook failed list", "leadhook run", "leadhook topology apply"] {
        assert!(has(path, "config"), "{path}");
    }
    for path in ["leadhook", "leadhook listen", "leadhook verify"] {
        assert!(!has(path, "config") && !has(path, "store"), "{path}");
    }
    for path in ["leadhook topology", "leadhook targets", "leadhook health", "leadhook rejected list"] {
        assert!(!has(path, "store"), "{path}");
    }
    assert!(has("leadhook failed list", "color") && !has("leadhook run", "color"));
}
