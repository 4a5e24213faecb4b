//! Manners that all commands share: answers on stdout, talk on stderr, colours only where somebody looks at them, exit
//! codes that scripts can rely on.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::{ExitCode, Termination},
    time::Duration,
};

use comfy_table::{Attribute, CellAlignment, Color, ContentArrangement, ContentLineStyle, LineStyle, TableStyle};
use serde::Serialize;

use crate::logging;

/// How a command ended. The numbers are part of the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, nothing to report.
    Ok = 0,
    /// 1: done, but something was found or could not be done for every item; the output says what.
    Findings = 1,
    /// 2: the command line, the settings, the store or the input is wrong; nothing was done.
    Usage = 2,
    /// 3: could not start: the broker cannot be reached, or its topology is not as it must be.
    CannotStart = 3,
    /// 4: stopped before everything in flight was settled; the broker delivers it again.
    UncleanDrain = 4,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

/// A command that could not do its work: what to tell, and how to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How the process ends.
    pub exit: Exit,
    /// What was wrong and what would be right, without `error:` before it.
    pub text: String,
}

impl Refusal {
    /// The command line or the input is wrong.
    pub fn usage(text: impl Into<String>) -> Refusal {
        Refusal { exit: Exit::Usage, text: text.into() }
    }

    /// Something that is needed is not there.
    pub fn cannot_start(text: impl Into<String>) -> Refusal {
        Refusal { exit: Exit::CannotStart, text: text.into() }
    }

    /// Tells it on stderr.
    pub fn tell(&self) -> Exit {
        complain("error", &self.text);
        self.exit
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Writes `warning: ...` to stderr.
pub fn warn(text: &str) {
    complain("warning", text);
}

fn complain(word: &str, text: &str) {
    // There is nobody left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "{word}: {text}");
}

/// What stdout is, asked once at the start of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// A person looks at it: tables get lines and fit the width.
    pub interactive: bool,
    /// Colours are welcome.
    pub colour: bool,
}

impl Terminal {
    /// Looks at stdout and at `NO_COLOR` (no-color.org: any value but the empty one) and `TERM=dumb`.
    pub fn detect() -> Terminal {
        let interactive = io::stdout().is_terminal();
        let unwanted = logging::no_color() || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Terminal { interactive, colour: interactive && !unwanted }
    }

    /// A pipe or a file: no lines, no colours.
    pub fn plain() -> Terminal {
        Terminal { interactive: false, colour: false }
    }

    /// The text in that tone, where colours are welcome.
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

/// What a piece of text is to be felt as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// Beside the point.
    Quiet,
    /// A heading.
    Strong,
}

/// A table that fits a terminal, or plain aligned columns two blanks apart elsewhere.
pub struct Table {
    terminal: Terminal,
    table: comfy_table::Table,
}

/// One cell of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    right: bool,
    tone: Option<Tone>,
}

impl Cell {
    /// Text, aligned left. Control characters are replaced: what came from a message must not steer the terminal.
    pub fn text(text: impl AsRef<str>) -> Cell {
        Cell { text: printable(text.as_ref()), right: false, tone: None }
    }

    /// A number, aligned right.
    pub fn number(number: impl fmt::Display) -> Cell {
        Cell { text: printable(&number.to_string()), right: true, tone: None }
    }

    /// The same cell in that tone.
    pub fn tone(self, tone: Tone) -> Cell {
        Cell { tone: Some(tone), ..self }
    }
}

impl Table {
    /// An empty table with these headings.
    pub fn new(terminal: Terminal, headings: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        let columns = ContentLineStyle::none().junction(' ');
        let style = TableStyle::new().header_lines(columns).content_lines(columns);
        if terminal.interactive {
            table.load_style(style.header_separator(LineStyle::none().fill('─').junction('─')));
            table.set_content_arrangement(ContentArrangement::Dynamic);
            if terminal.colour {
                table.enforce_styling().style_text_only();
            }
        } else {
            table.load_style(style).force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
        }
        let heading = |text: &&str| styled(comfy_table::Cell::new(text), terminal, Some(Tone::Strong));
        table.set_header(headings.iter().map(heading).collect::<Vec<_>>());
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        Table { terminal, table }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Table {
        let cells = cells.into_iter().map(|cell| {
            let alignment = if cell.right { CellAlignment::Right } else { CellAlignment::Left };
            styled(comfy_table::Cell::new(cell.text).set_alignment(alignment), self.terminal, cell.tone)
        });
        let cells: Vec<_> = cells.collect();
        self.table.add_row(cells);
        self
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

/// The cell in that tone, where colours are welcome. The table must know: painted text would count as longer than it looks,
/// and be broken in the middle of an escape sequence.
fn styled(cell: comfy_table::Cell, terminal: Terminal, tone: Option<Tone>) -> comfy_table::Cell {
    match tone.filter(|_| terminal.colour) {
        None => cell,
        Some(Tone::Good) => cell.fg(Color::DarkGreen),
        Some(Tone::Warning) => cell.fg(Color::DarkYellow),
        Some(Tone::Bad) => cell.fg(Color::DarkRed),
        Some(Tone::Quiet) => cell.add_attribute(Attribute::Dim),
        Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.table.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Writes an answer and a line end to stdout. A reader that has gone (`| head`) is no error.
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

/// Writes one JSON document to stdout, indented: an object, or the array of a listing.
///
/// # Errors
/// As [`print()`]; the answer cannot be written as JSON.
pub fn print_json(answer: &impl Serialize) -> io::Result<()> {
    print(serde_json::to_string_pretty(answer)?)
}

/// The text with control characters (escape sequences, line ends) replaced.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A duration for people: `250 ms`, `1.5 s`, `15 s`, `1 min 30 s`, `2 h`, `3 d 4 h`; at most two units, cut off below.
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

/// How long ago something was, for people: `just now`, `40 s ago`, `3 min ago`, `2 h ago`, `5 d ago`.
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

    use super::{Cell, Exit, Table, Terminal, Tone, human_age, human_duration};

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
        let all = [Exit::Ok, Exit::Findings, Exit::Usage, Exit::CannotStart, Exit::UncleanDrain];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4]);
    }
}
