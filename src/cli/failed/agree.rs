//! Nothing is done with many jobs before somebody has agreed to their number.

use std::io::{self, IsTerminal, Write};

use crate::cli::output::{Exit, Refusal};

/// Asks a question, where somebody can be asked and has not agreed beforehand.
///
/// # Errors
/// There is no terminal and no `--yes`; or the answer is no.
pub(in crate::cli) fn agree(yes: bool, question: &str) -> Result<(), Refusal> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Refusal::usage(format!("{question} Without a terminal to ask, say --yes")));
    }
    eprint!("{question} [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(Refusal { exit: Exit::Findings, text: "nothing was done".to_owned() }),
    }
}

/// Who does something, for the delivery log.
#[derive(clap::Args)]
pub(in crate::cli) struct By {
    /// Who does this, for the delivery log [default: the user who is logged in]
    #[arg(long = "by", value_name = "NAME", env = "LEADHOOK_OPERATOR")]
    name: Option<String>,
}

impl By {
    /// The name, at most 100 characters of it.
    pub(in crate::cli) fn name(&self) -> String {
        let user = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let name = self.name.clone().filter(|name| !name.trim().is_empty()).or_else(user);
        name.unwrap_or_else(|| "unknown".to_owned()).chars().take(100).collect()
    }
}
