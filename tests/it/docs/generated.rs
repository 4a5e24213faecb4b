//! Compares the parts between `<!-- begin generated NAME: make docs -->` and `<!-- end generated NAME -->` with the
//! output of [`leadhook::reference`]. With `LEADHOOK_WRITE_DOCS` set (`make docs`) it writes them instead.

use leadhook::reference;

use super::{documents, root};

#[test]
fn the_generated_parts_are_what_the_code_generates() {
    let is_to_write = std::env::var_os("LEADHOOK_WRITE_DOCS").is_some();
    let parts = reference::parts();
    let mut missing: Vec<_> = parts.iter().map(|(name, _)| *name).collect();
    for document in documents() {
        let mut text = document.text.clone();
        for (name, part) in &parts {
            let Some((before, there, after)) = marked(&text, name) else { continue };
            missing.retain(|it| it != name);
            if there == *part {
                continue;
            }
            assert!(is_to_write, "{}: {name} is not what the code generates: run make docs", document.path);
            text = format!("{before}{part}{after}");
        }
        if text != document.text {
            std::fs::write(root().join(&document.path), text).expect("the document");
        }
    }
    assert!(missing.is_empty(), "no document has a place for {missing:?}");
}

/// Splits a text into the text before a generated part, the part between its marks, and the rest.
fn marked<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("<!-- begin generated {name}: make docs -->\n");
    let end = format!("\n<!-- end generated {name} -->");
    let from = text.find(&begin)? + begin.len();
    let to = from + text[from..].find(&end)?;
    Some((&text[..from], &text[from..to], &text[to..]))
}
