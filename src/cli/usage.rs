//! Turns an invalid command line into a message of the common form. The parsing library's text has another form and
//! does not say where the problem is.

use std::{error::Error as _, ffi::OsString};

use clap::{
    Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::output::Refusal;

/// Most values that a message lists.
const LISTED: usize = 16;

/// Returns the refusal for an error that is not a request for help or the version. `arguments` is the command line,
/// including the program's name.
pub(super) fn refusal(error: &Error, command: &Command, arguments: &[OsString]) -> Refusal {
    let (path, command) = reached(command, arguments);
    let context = Context(error);
    let see = format!("`{path} --help` lists what it takes");
    let argument = context.one(ContextKind::InvalidArg);
    let option = name(&argument);
    let value = context.one(ContextKind::InvalidValue);
    let (what, help) = match error.kind() {
        ErrorKind::UnknownArgument => {
            let known = |arg: &clap::Arg| arg.get_long().is_some_and(|long| argument.strip_prefix("--") == Some(long));
            if command.get_arguments().any(known) {
                return Refusal::usage(
                    format!("misplaced option {argument}: {path}"),
                    format!("write it after `{path}`"),
                );
            }
            let what = if argument.starts_with('-') { "unknown option" } else { "unexpected argument" };
            let near = context.suggestion(ContextKind::SuggestedArg).map(|near| format!("{near} "));
            (format!("{what} {argument}"), format!("{}{see}", near.unwrap_or_default()))
        }
        ErrorKind::InvalidSubcommand => {
            let said = context.one(ContextKind::InvalidSubcommand);
            let shows = command.find_subcommand("show").map(|_| format!("to see one by its id: {path} show {said}"));
            let near = context.suggestion(ContextKind::SuggestedSubcommand);
            // Text with `_` is probably an id, so the advice to show it comes first.
            let (first, second) = if said.contains('_') { (shows, near) } else { (near, shows) };
            (format!("unknown command {said}"), first.or(second).unwrap_or(see))
        }
        ErrorKind::MissingSubcommand => ("no command was given".to_owned(), see),
        ErrorKind::InvalidValue if value.is_empty() => {
            (format!("{option} needs a value"), format!("write one after it; {see}"))
        }
        ErrorKind::InvalidValue => {
            let listed = || context.listed(ContextKind::ValidValue).unwrap_or(see);
            let near = context.suggestion(ContextKind::SuggestedValue);
            (format!("{option} does not take {value:?}"), near.unwrap_or_else(listed))
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            (format!("{option} does not take {value:?}"), if why.is_empty() { see } else { why })
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = context.all(ContextKind::InvalidArg);
            match missing.split_last() {
                Some((last, before)) if !before.is_empty() => {
                    (format!("{} and {last} are missing", before.join(", ")), format!("add them; {see}"))
                }
                _ => (format!("{} is missing", missing.concat()), format!("add it; {see}")),
            }
        }
        ErrorKind::ArgumentConflict => {
            let other = context.all(ContextKind::PriorArg).iter().map(|other| name(other)).collect::<Vec<_>>();
            match other.as_slice() {
                [] => (format!("{option} cannot be used here"), see),
                [same] if *same == option => (format!("{option} is given twice"), "give it once".to_owned()),
                others => {
                    let others = others.join(" and ");
                    (format!("{option} cannot be used together with {others}"), "leave out one of them".to_owned())
                }
            }
        }
        ErrorKind::InvalidUtf8 => ("an argument is not UTF-8 text".to_owned(), see),
        _ => (error.kind().as_str().unwrap_or("the command line cannot be understood").to_owned(), see),
    };
    Refusal::usage(format!("{what}: {path}"), help)
}

/// Returns the command that the arguments name, and its path as the user types it.
fn reached<'c>(command: &'c Command, arguments: &[OsString]) -> (String, &'c Command) {
    let mut path = command.get_name().to_owned();
    let mut reached = command;
    for argument in arguments.iter().skip(1) {
        if let Some(next) = reached.find_subcommand(argument) {
            path = format!("{path} {}", next.get_name());
            reached = next;
        }
    }
    (path, reached)
}

/// Returns an option without its value: `--since` of `--since <WHEN>`.
fn name(argument: &str) -> String {
    let name = argument.split([' ', '=']).next().unwrap_or_default();
    if name.starts_with("--") { name.to_owned() } else { argument.to_owned() }
}

/// Reads the parts of an error.
struct Context<'e>(&'e Error);

impl Context<'_> {
    fn all(&self, kind: ContextKind) -> Vec<String> {
        match self.0.get(kind) {
            Some(ContextValue::String(text)) => vec![text.clone()],
            Some(ContextValue::Strings(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    fn one(&self, kind: ContextKind) -> String {
        self.all(kind).into_iter().next().unwrap_or_default()
    }

    fn suggestion(&self, kind: ContextKind) -> Option<String> {
        let near = self.all(kind);
        (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
    }

    fn listed(&self, kind: ContextKind) -> Option<String> {
        let values = self.all(kind);
        match values.len() {
            0 => None,
            1..=LISTED => Some(format!("write one of {}", values.join(", "))),
            _ => None,
        }
    }
}
