//! The output of all commands: results on stdout, messages on stderr, colours only on a terminal, and one table of exit
//! codes that scripts can rely on.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::{ExitCode, Termination},
    time::Duration,
};

use serde::Serialize;

use crate::{logging, os_error};

/// How a command ended. The numbers are part of the contract with scripts and the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and nothing to report.
    Ok = 0,
    /// 1: the command found something, or could not do everything; the output says what.
    Findings = 1,
    /// 2: the command line, the settings, the webhook store or the input is wrong. Nothing was done.
    Usage = 2,
    /// 3: the broker cannot be reached, its topology is not usable, or a port cannot be opened. Nothing was done.
    CannotStart = 3,
    /// 4: stopped before everything in flight was settled. The broker delivers those messages again.
    UncleanDrain = 4,
}

impl Exit {
    /// All exit codes, in order.
    pub const ALL: [Exit; 5] = [Exit::Ok, Exit::Findings, Exit::Usage, Exit::CannotStart, Exit::UncleanDrain];

    /// Returns the number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Returns the meaning, as the help shows it.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "fine",
            Exit::Findings => "findings or something failed",
            Exit::Usage => "usage or bad configuration",
            Exit::CannotStart => "could not start (broker or topology)",
            Exit::UncleanDrain => "stopped before everything in flight was settled",
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

/// Returns the end of a command's help: examples, one per line, and the table of exit codes. `findings` is the meaning
/// of code 1 for this command; if it is empty, the general meaning is used.
pub(super) fn after_help(examples: &str, findings: &str) -> String {
    let examples = examples.trim().lines().map(|line| format!("  {}\n", line.trim())).collect::<String>();
    let meaning = |exit: Exit| match exit {
        Exit::Findings if !findings.is_empty() => findings,
        other => other.meaning(),
    };
    let codes = Exit::ALL.map(|exit| format!("{} {}", exit.code(), meaning(exit))).join(", ");
    format!("Examples:\n{examples}\nExit codes: {codes}")
}

/// Why a command could not do its work, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The exit code of the process.
    pub exit: Exit,
    /// What happened and where, as `<what>: <where>`.
    pub text: String,
    /// What to do about it.
    pub help: String,
}

impl Refusal {
    /// Creates a refusal: the command line, the configuration or the input is wrong.
    pub fn usage(text: impl Into<String>, help: impl Into<String>) -> Refusal {
        Refusal { exit: Exit::Usage, text: text.into(), help: help.into() }
    }

    /// Creates a refusal: the broker, its topology or a port is not available.
    pub fn cannot_start(text: impl Into<String>, help: impl Into<String>) -> Refusal {
        Refusal { exit: Exit::CannotStart, text: text.into(), help: help.into() }
    }

    /// Creates a refusal: the command found nothing, or something failed while it ran.
    pub fn findings(text: impl Into<String>, help: impl Into<String>) -> Refusal {
        Refusal { exit: Exit::Findings, text: text.into(), help: help.into() }
    }

    /// Creates a refusal: the answer could not be written, for example because the disk is full.
    pub fn unwritable(error: &io::Error) -> Refusal {
        let text = format!("cannot write the answer: standard output: {}", os_error::words(error));
        Refusal::findings(text, "free space there, or send the output elsewhere")
    }

    /// Writes the refusal to stderr and returns its exit code.
    pub fn tell(&self) -> Exit {
        say("error", &self.text);
        help(&self.help);
        self.exit
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.help)
    }
}

impl std::error::Error for Refusal {}

/// Writes `warning: ...` to stderr.
pub fn warn(text: &str) {
    say("warning", text);
}

/// Writes `note: ...` to stderr.
pub fn note(text: &str) {
    say("note", text);
}

/// Writes `help: ...` to stderr.
pub fn help(text: &str) {
    say("help", text);
}

fn say(word: &str, text: &str) {
    // If stderr is closed, the message has nowhere to go.
    let _ = writeln!(io::stderr(), "{word}: {text}");
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// In files and pipes too
    Always,
    /// Not at all
    Never,
}

impl Colour {
    /// Returns whether to use colours on stdout. `Auto` respects `NO_COLOR` (no-color.org: any non-empty value) and
    /// `TERM=dumb`.
    pub fn wanted(self) -> bool {
        match self {
            Colour::Auto => {
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                io::stdout().is_terminal() && !logging::no_color() && !dumb
            }
            Colour::Always => true,
            Colour::Never => false,
        }
    }
}

/// The tone of a piece of text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Fine.
    Good,
    /// Needs attention.
    Warning,
    /// Wrong.
    Bad,
    /// Less important.
    Quiet,
    /// A heading.
    Strong,
}

/// The kind of stdout, detected once at the start of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whether stdout is a terminal. If so, tables get lines and fit its width.
    pub interactive: bool,
    /// Whether to use colours.
    pub colour: bool,
}

impl Terminal {
    /// Detects the kind of stdout.
    pub fn detect(colour: Colour) -> Terminal {
        Terminal { interactive: io::stdout().is_terminal(), colour: colour.wanted() }
    }

    /// Returns the kind for a pipe or a file: no lines, no colours.
    pub fn plain() -> Terminal {
        Terminal { interactive: false, colour: false }
    }

    /// Returns the text in that tone, if colours are used.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Writes an answer and a line break to stdout. A closed reader (`| head`) is not an error.
///
/// # Errors
/// Stdout cannot be written for another reason.
pub fn print(text: impl fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one indented JSON document to stdout: an object, or the array of a listing.
///
/// # Errors
/// As for [`print()`], or the answer cannot be written as JSON.
pub fn print_json(answer: &impl Serialize) -> io::Result<()> {
    print(serde_json::to_string_pretty(answer)?)
}

/// Replaces control characters (escape sequences, line breaks) in the text.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Formats a duration for people: `250 ms`, `1.5 s`, `15 s`, `1 min 30 s`, `2 h`, `3 d 4 h`. Shows at most two
/// units, rounded down.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.is_zero() => "0 s".to_owned(),
        0 if duration.as_millis() == 0 => "below 1 ms".to_owned(),
        0 => format!("{} ms", duration.as_millis()),
        1..10 if duration.subsec_millis() >= 100 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        1..60 => format!("{seconds} s"),
        60..3600 => two_units(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two_units(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        86_400.. => two_units(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Formats an age for people: `just now`, `40 s ago`, `3 min ago`, `2 h ago`, `5 d ago`.
pub fn human_age(age: Duration) -> String {
    match age.as_secs() {
        0 => "just now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Exit, Terminal, Tone, human_age, human_duration};
    use crate::cli::table::{Cell, Table};

    const COLOURED: Terminal = Terminal { interactive: true, colour: true };

    fn queues(terminal: Terminal) -> String {
        let mut table = Table::new(terminal, &["queue", "messages", "state"]);
        table.row([Cell::text("leadhook.jobs"), Cell::number(7), Cell::text("ok").tone(Tone::Good)]);
        table.row([Cell::text("leadhook.failed"), Cell::number(1200), Cell::text("evil\u{1b}[2Jtext\n")]);
        table.to_string()
    }

    #[test]
    fn a_pipe_gets_plain_columns() {
        let expected = "\
queue            messages  state
leadhook.jobs           7  ok
leadhook.failed      1200  evil\u{fffd}[2Jtext\u{fffd}";
        assert_eq!(queues(Terminal::plain()), expected);
    }

    #[test]
    fn a_terminal_gets_lines_and_colours() {
        let shown = queues(COLOURED);
        assert!(shown.contains('─') && shown.contains("\u{1b}[38;5;2mok\u{1b}["), "{shown}");
        assert!(shown.contains("\u{1b}[1mmessages\u{1b}["), "{shown}");
        assert!(!shown.contains("\u{1b}[2J"), "{shown}");
        let colourless = queues(Terminal { interactive: true, colour: false });
        assert!(colourless.contains('─') && !colourless.contains('\u{1b}'), "{colourless}");
    }

    #[test]
    fn durations_and_ages_read_well() {
        for (millis, duration, age) in [
            (0, "0 s", "just now"),
            (250, "250 ms", "just now"),
            (1_000, "1 s", "1 s ago"),
            (1_550, "1.5 s", "1 s ago"),
            (15_900, "15 s", "15 s ago"),
            (60_000, "1 min", "1 min ago"),
            (90_000, "1 min 30 s", "1 min ago"),
            (7_200_000, "2 h", "2 h ago"),
            (7_500_000, "2 h 5 min", "2 h ago"),
            (273_600_000, "3 d 4 h", "3 d ago"),
        ] {
            assert_eq!(human_duration(Duration::from_millis(millis)), duration);
            assert_eq!(human_age(Duration::from_millis(millis)), age);
        }
        assert_eq!(human_duration(Duration::from_micros(10)), "below 1 ms");
    }

    #[test]
    fn exit_codes_are_fixed() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4]);
    }
}
