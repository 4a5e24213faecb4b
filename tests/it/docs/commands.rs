//! Each command line in a document is valid: clap accepts it whole, including values. Nothing is run.

use clap::{Command, error::ErrorKind};
use leadhook::cli;

use super::{
    documents,
    markdown::{blocks, codes, shell_words},
    read,
};

/// Kinds of fenced blocks with lines for a shell.
const SHELLS: [&str; 4] = ["sh", "bash", "shell", "console"];

#[test]
fn command_lines_in_documents_can_be_typed() {
    let mut checked = 0;
    let mut wrong = Vec::new();
    for document in documents() {
        for line in SHELLS.iter().flat_map(|kind| blocks(&document.text, kind)).flat_map(|block| lines(&block)) {
            for arguments in invocations(&line) {
                checked += 1;
                if let Err(problem) = parse(&arguments) {
                    wrong.push(format!("{}: {line}\n  {problem}", document.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 20, "only {checked} were found");
}

/// Checks only names, because prose often leaves values out or writes them in capitals.
#[test]
fn commands_and_options_in_prose_exist() {
    let mut wrong = Vec::new();
    for document in documents() {
        for code in codes(&document.text) {
            let Some(rest) = code.strip_prefix("leadhook ") else { continue };
            let root = cli::command();
            if let Err(problem) = names_exist(&root, &shell_words(rest)) {
                wrong.push(format!("{}: `{code}`: {problem}", document.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn targets_of_make_in_documents_exist() {
    let makefile = read("Makefile");
    let is_target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    let mut wrong = Vec::new();
    for document in documents() {
        let shown = SHELLS.iter().flat_map(|kind| blocks(&document.text, kind)).flat_map(|block| lines(&block));
        for line in shown.chain(codes(&document.text)) {
            let words = shell_words(&line);
            let Some(("make", targets)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
                continue;
            };
            let targets = targets.iter().take_while(|word| !matches!(word.as_str(), "|" | "&" | ";"));
            let targets = targets.filter(|word| !word.contains('=') && !word.starts_with('-'));
            wrong.extend(targets.filter(|it| !is_target(it)).map(|it| format!("{}: make {it}", document.path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the lines of a block, with continued ones joined and without prompts.
fn lines(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    joined.lines().map(|line| line.trim().trim_start_matches("$ ").to_owned()).collect()
}

/// Returns the arguments of each `leadhook` on a line, without redirections.
fn invocations(line: &str) -> Vec<Vec<String>> {
    let words = shell_words(line);
    let commands = words.split(|word| matches!(word.as_str(), "|" | "&" | ";"));
    let ours = commands.filter_map(|command| {
        let at = command.iter().position(|word| word == "leadhook" || word.ends_with("/leadhook"))?;
        is_run(&command[..at]).then(|| &command[at + 1..])
    });
    ours.map(|arguments| {
        let mut kept = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.trim_start_matches(|c: char| c.is_ascii_digit()) {
                ">" | ">>" | "<" => {
                    arguments.next();
                }
                redirection if redirection.starts_with(['>', '<']) && !redirection.contains("<<") => {}
                _ => kept.push(argument.clone()),
            }
        }
        kept
    })
    .collect()
}

/// Returns whether the words before `leadhook` let it run, and do not merely name it (`--name leadhook`,
/// `cd leadhook`).
fn is_run(before: &[String]) -> bool {
    const KEYWORDS: [&str; 8] = ["if", "until", "while", "then", "do", "!", "sudo", "exec"];
    before.iter().all(|word| word.contains('=') || KEYWORDS.contains(&word.as_str()))
}

fn parse(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|argument| argument.contains("$(")) {
        return names_exist(&cli::command(), arguments);
    }
    // A line in a document may rely on the environment, as a reader's does.
    let root = without_required_variables(cli::command());
    let line = std::iter::once("leadhook").chain(arguments.iter().map(String::as_str));
    match root.try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
            _ => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        },
    }
}

/// Makes options optional that a variable can supply.
fn without_required_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| if arg.get_env().is_some() { arg.required(false) } else { arg });
    command.mut_subcommands(without_required_variables)
}

/// Checks subcommands and options, as far as they differ from values.
fn names_exist(root: &Command, words: &[String]) -> Result<(), String> {
    let mut command = root;
    for (place, word) in words.iter().take_while(|word| !matches!(word.as_str(), "|" | "&" | ";")).enumerate() {
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split(['=', ' ']).next().unwrap_or_default();
            let is_known = command.get_arguments().any(|arg| {
                arg.get_long() == Some(option) || arg.get_all_aliases().is_some_and(|all| all.contains(&option))
            });
            if !is_known && !option.is_empty() {
                return Err(format!("no option --{option}"));
            }
        } else if let Some(subcommand) = command.find_subcommand(word) {
            command = subcommand;
        } else if place == 0 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            return Err(format!("no command {word}"));
        }
    }
    Ok(())
}

#[test]
fn lines_that_cannot_be_typed_are_found() {
    let problem = |line: &str| invocations(line).iter().find_map(|arguments| parse(arguments).err());
    for good in [
        "leadhook check --store webhooks.yaml  # fine",
        "LEADHOOK__BACKOFF__INITIAL=1s leadhook run --store webhooks.yaml &",
        "until leadhook health > /dev/null 2>&1; do sleep 0.2; done",
        "leadhook verify --id wh_1 --timestamp 1 --signature 'v1,x' body.json",
        "docker run --name leadhook x",
    ] {
        assert_eq!(problem(good), None, "{good}");
    }
    assert_eq!(invocations("leadhook failed list | leadhook listen").len(), 2);
    for wrong in ["leadhook chek", "leadhook check --strore x", "leadhook listen --port many", "a; leadhook explain"] {
        assert!(problem(wrong).is_some(), "{wrong}");
    }
    let named = |text: &str| names_exist(&cli::command(), &shell_words(text));
    assert!(named("failed replay --all").is_ok() && named("failed show ID").is_ok());
    assert!(named("failed replay --al").is_err() && named("fialed").is_err());
}
