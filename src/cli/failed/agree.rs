//! Asks a person to agree to the number of jobs before a command changes many of them.

use std::io::{self, IsTerminal, Write};

use crate::cli::output::Refusal;

/// Asks a question on the terminal, unless `--yes` was given.
///
/// # Errors
/// There is neither a terminal nor `--yes`, or the answer is not yes.
pub(in crate::cli) fn agree(yes: bool, question: &str) -> Result<(), Refusal> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let text = format!("the answer cannot be asked without a terminal: {question}");
        return Err(Refusal::usage(text, "add --yes to agree, or --dry-run to see what would be done"));
    }
    eprint!("{question} [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(Refusal::findings("nothing was done: the answer was not yes", "run it again and answer y")),
    }
}

// The person who acts.
#[derive(clap::Args)]
pub(in crate::cli) struct By {
    /// Name of the person who does this, for the delivery log [default: the user who is logged in]
    #[arg(long = "by", value_name = "NAME", env = "LEADHOOK_OPERATOR")]
    name: Option<String>,
}

impl By {
    /// Returns the name, cut to 100 characters.
    pub(in crate::cli) fn name(&self) -> String {
        let user = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let name = self.name.clone().filter(|name| !name.trim().is_empty()).or_else(user);
        name.unwrap_or_else(|| "unknown".to_owned()).chars().take(100).collect()
    }
}
