//! The rules for everything that reads bytes from outside. Each reader has a module, with functions that take any input
//! and panic when a rule is broken.
//!
//! The same functions run on generated inputs (`tests/properties`, in every test run) and under libFuzzer (`fuzz/`), so
//! that each rule is written once. Each module's `input` takes a fuzzer's bytes and returns a word for the result. The
//! files of the committed corpus begin with that word.

pub mod event;
pub mod frames;
pub mod headers;
pub mod job;
pub mod json;
pub mod retry_after;
pub mod signature;
pub mod store;

/// Takes any bytes, checks every rule, and names the result.
pub type Input = fn(&[u8]) -> &'static str;

/// Every reader, by the name of its fuzz target and corpus.
pub const SUBJECTS: [(&str, Input); 7] = [
    ("event", event::input),
    ("frames", frames::input),
    ("headers", headers::input),
    ("job", job::input),
    ("retry_after", retry_after::input),
    ("signature", signature::input),
    ("store", store::input),
];

/// Splits an input into the lines before the first empty line, and the bytes after it.
fn head_and_body(input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut lines = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    (lines, rest)
}

/// Returns whether a text is safe in a log line, a header and a terminal: one line, without control characters.
fn is_one_plain_line(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}
