//! Tables on the terminal.

use std::fmt;

use comfy_table::{Attribute, CellAlignment, Color, ContentArrangement, ContentLineStyle, LineStyle, TableStyle};

use super::output::{Terminal, Tone, printable};

/// A table. It fits the width of a terminal; files and pipes get plain aligned columns two blanks apart.
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
    /// Creates a left-aligned cell. Control characters are replaced, so that text of a message cannot control the
    /// terminal.
    pub fn text(text: impl AsRef<str>) -> Cell {
        Cell { text: printable(text.as_ref()), right: false, tone: None }
    }

    /// Creates a right-aligned cell with a number.
    pub fn number(number: impl fmt::Display) -> Cell {
        Cell { text: printable(&number.to_string()), right: true, tone: None }
    }

    /// Sets the tone.
    pub fn tone(self, tone: Tone) -> Cell {
        Cell { tone: Some(tone), ..self }
    }
}

impl Table {
    /// Creates an empty table with these headings.
    pub fn new(terminal: Terminal, headings: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        let columns = ContentLineStyle::none().junction(' ');
        let style = TableStyle::new().header_lines(columns).content_lines(columns);
        if terminal.interactive {
            table.load_style(style.header_separator(LineStyle::none().fill('─').junction('─')));
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.load_style(style).force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
        }
        if terminal.colour {
            table.enforce_styling().style_text_only();
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

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

/// Applies the tone, if colours are used. The table must know the tone: it would count escape sequences as text, and
/// could break a line inside one.
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
