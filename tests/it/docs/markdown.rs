//! Just enough Markdown to find the claims of a document.

use std::collections::BTreeMap;

/// Returns the text without fenced blocks: prose, tables and headings.
pub fn prose(text: &str) -> String {
    let mut is_fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        match line.trim_start().starts_with("```") {
            true => is_fenced = !is_fenced,
            false if is_fenced => {}
            false => prose.push_str(&format!("{line}\n")),
        }
    }
    prose
}

/// Returns the contents of all fenced blocks of one kind, including those in lists, without their indentation.
pub fn blocks(text: &str, kind: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut block) {
            (Some(info), None) => block = Some((info.trim() == kind, String::new())),
            (Some(_), Some((is_wanted, content))) => {
                blocks.extend(is_wanted.then(|| std::mem::take(content)));
                block = None;
            }
            (None, Some((_, content))) => content.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    blocks.iter().map(|block| dedent(block)).collect()
}

fn dedent(block: &str) -> String {
    let indents = block.lines().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    let indent = indents.min().unwrap_or(0);
    block.lines().map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect()
}

/// Returns the texts between single backticks in prose.
pub fn codes(text: &str) -> Vec<String> {
    prose(text)
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Returns the targets of links and images in prose.
pub fn links(text: &str) -> Vec<String> {
    prose(text).split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// Returns the anchors of the headings: lower case, spaces to dashes, only letters and digits, numbered if a heading
/// repeats.
pub fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(text);
    let headings =
        headings.lines().filter(|line| line.trim_start_matches('#').starts_with(' ') && line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            let slug: String = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
            let before = seen.entry(slug.clone()).or_default();
            *before += 1;
            if *before == 1 { slug } else { format!("{slug}-{}", *before - 1) }
        })
        .collect()
}

/// Returns runs of letters, digits, `_` and `-`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).filter(|word| !word.is_empty())
}

pub fn is_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Returns the rows of all tables in a section whose first cell is a code, without its backticks. A section runs from
/// its `##` heading to the next one.
pub fn rows(text: &str, section: &str) -> Vec<Vec<String>> {
    let (_, rest) = text.split_once(&format!("\n{section}\n")).unwrap_or_else(|| panic!("there is no {section:?}"));
    let depth = section.split(' ').next().unwrap_or_default();
    let end = rest.find(&format!("\n{depth} ")).unwrap_or(rest.len());
    table(&rest[..end])
}

/// Returns the rows of all tables whose first cell is a code, without its backticks.
pub fn table(text: &str) -> Vec<Vec<String>> {
    let prose = prose(text);
    let lines = prose.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

/// Splits a line as a shell does, and removes quotes. Comments end it, and operators are separate words.
pub fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | ';') => {
                words.extend(word.take());
                words.push(c.to_string());
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn a_line_is_split_as_a_shell_does() {
    let words = shell_words(r#"A='b c' leadhook x --to "d e"&& y \# | z # end"#);
    assert_eq!(words, ["A=b c", "leadhook", "x", "--to", "d e", "&", "&", "y", "#", "|", "z"]);
}

#[test]
fn headings_give_anchors_and_fences_none() {
    let text = "# One: `two`_3?\n```sh\n# no heading\n```\n## Four\n## Four\n#not one\n";
    assert_eq!(anchors(text), ["one-two_3", "four", "four-1"]);
    assert_eq!(blocks("- x\n  ```sh\n  a\n    b\n  ```\n```sh\nc\n```\n```text\nd\n```\n", "sh"), ["a\n  b\n", "c\n"]);
    assert_eq!(links("[a](b.md#c) ![d](e.png)\n```\n[x](y)\n```\n"), ["b.md#c", "e.png"]);
}
