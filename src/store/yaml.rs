//! Reads YAML text into the document tree.
//!
//! Several people edit a store, so the surprising parts of YAML are refused, each with its own message:
//!
//! - several documents in a file
//! - merge keys (`<<`)
//! - tags other than `!!str`
//! - keys that are not plain text
//! - duplicate keys
//!
//! Each alias is replaced by a copy, up to a bound, so that a small file cannot become a huge one.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{
    document::{self, Entry, KeyPath, Node, Value},
    problem::{Place, Problems},
};

/// Deepest nesting of maps and lists. The schema needs 8.
const DEEPEST: usize = 64;

/// Most that all aliases of a file may copy together, measured by [`size`].
const MOST_COPIED: usize = 100_000;

/// Most that all anchors of a file may keep for aliases together, measured by [`size`].
const MOST_KEPT: usize = 1_000_000;

/// Bytes of text that cost as much as one value.
const TEXT: usize = 64;

/// Reads one document. Returns `None` if it cannot be read at all; the reason is among the problems.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Problems) -> Option<Node> {
    let mut tree = Tree { problems, open: Vec::new(), anchors: HashMap::new(), copied: 0, kept: 0, root: None };
    let mut documents = 0;
    let end = end(file, text);
    for event in Parser::new_from_str(text) {
        let (event, mark) = match event {
            Ok((event, span)) => (event, span.start),
            Err(error) => {
                let at = place(&end, error.marker());
                tree.problems.error(&at, "", format!("is not valid YAML: {}", error.info()));
                return None;
            }
        };
        let at = place(&end, &mark);
        let taken = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    Err("begins a second YAML document; write one document a file".to_owned())
                } else {
                    Ok(())
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                scalar(&text, style, tag.as_deref()).and_then(|value| tree.leaf(at.clone(), value, &text, anchor))
            }
            Event::SequenceStart(anchor, tag) => tree.open(at.clone(), Shape::List(Vec::new()), anchor, tag.as_deref()),
            Event::MappingStart(anchor, tag) => {
                tree.open(at.clone(), Shape::Map(Vec::new(), HashMap::new(), None), anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => tree.close(),
            Event::Alias(anchor) => tree.alias(anchor),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        };
        if let Err(text) = taken {
            let path = tree.path();
            tree.problems.error(&at, path, text);
            return None;
        }
    }
    Some(tree.root.unwrap_or_else(|| Node { place: start(file), value: Value::Nothing }))
}

/// Converts a position of the parser in a file that ends at `end`. For a truncated file the parser names the line after
/// the last, which no editor has; this returns the end instead.
fn place(end: &Place, mark: &Marker) -> Place {
    match mark.line() > end.line {
        true => end.clone(),
        false => Place { file: end.file.clone(), line: mark.line().max(1), column: mark.col() + 1 },
    }
}

fn end(file: &Arc<str>, text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let line = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
    Place { file: file.clone(), line, column: last.chars().count() + 1 }
}

fn start(file: &Arc<str>) -> Place {
    Place { file: file.clone(), line: 1, column: 1 }
}

/// Reads a scalar by the core schema of YAML 1.2: `yes` and `on` are text, not booleans.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag {
        None => {}
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return Ok(Value::Text(text.to_owned())),
        Some(_) => return Err(TAGS.to_owned()),
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::Text(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Nothing,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    })
}

const TAGS: &str = "uses a YAML tag; tags are not supported, write the plain value";

fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().map(Value::Integer);
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return i64::from_str_radix(hexadecimal, 16).ok().map(Value::Integer);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(Value::Other("a huge number"), Value::Integer));
    }
    let fraction = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if fraction { text.parse().ok().map(document::fraction) } else { None }
}

/// The tree while it is built.
struct Tree<'a> {
    problems: &'a mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    kept: usize,
    root: Option<Node>,
}

/// A list or map that is not closed yet.
struct Open {
    place: Place,
    shape: Shape,
    anchor: usize,
}

enum Shape {
    List(Vec<Node>),
    /// The entries so far, the line of each key, and the key whose value comes next.
    Map(Vec<Entry>, HashMap<String, usize>, Option<(String, Place)>),
}

impl Tree<'_> {
    /// Adds a scalar. As the next key of a map it keeps its text, so that ids such as `007` do not change.
    fn leaf(&mut self, at: Place, value: Value, text: &str, anchor: usize) -> Result<(), String> {
        if let Some(Open { shape: Shape::Map(_, _, key @ None), .. }) = self.open.last_mut() {
            if text == "<<" {
                return Err("uses a YAML merge key (`<<`); merge keys are not supported, write the keys out".to_owned());
            }
            *key = Some((text.to_owned(), at));
            return Ok(());
        }
        self.add(Node { place: at, value }, anchor)
    }

    fn open(&mut self, at: Place, shape: Shape, anchor: usize, tag: Option<&Tag>) -> Result<(), String> {
        if tag.is_some() {
            return Err(TAGS.to_owned());
        }
        if let Some(Open { shape: Shape::Map(_, _, None), .. }) = self.open.last() {
            return Err("uses a list or map as a key; keys must be plain text".to_owned());
        }
        if self.open.len() >= DEEPEST {
            return Err(format!("is nested more than {DEEPEST} deep"));
        }
        self.open.push(Open { place: at, shape, anchor });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(Open { place, shape, anchor }) = self.open.pop() else { return Ok(()) };
        let value = match shape {
            Shape::List(nodes) => Value::List(nodes),
            Shape::Map(entries, _, _) => Value::Map(entries),
        };
        self.add(Node { place, value }, anchor)
    }

    fn alias(&mut self, anchor: usize) -> Result<(), String> {
        if let Some(Open { shape: Shape::Map(_, _, None), .. }) = self.open.last() {
            return Err("uses an alias as a key; keys must be plain text".to_owned());
        }
        let Some(node) = self.anchors.get(&anchor) else {
            return Err("is an alias inside the very value that it names".to_owned());
        };
        self.copied += size(node);
        if self.copied > MOST_COPIED || depth(node) + self.open.len() > DEEPEST {
            return Err("makes the document too large by aliases; write the values out".to_owned());
        }
        // The copy keeps the places of the original, because a problem in it is fixed there.
        self.add(node.clone(), 0)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            self.kept += size(&node);
            if self.kept > MOST_KEPT {
                return Err("makes the document too large by anchors; write the values out".to_owned());
            }
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.shape) {
            None => self.root = Some(node),
            Some(Shape::List(nodes)) => nodes.push(node),
            Some(Shape::Map(entries, lines, key)) => {
                let Some((key, place)) = key.take() else { return Ok(()) };
                match lines.get(&key) {
                    None => {
                        lines.insert(key.clone(), place.line);
                        entries.push(Entry { key, place, node });
                    }
                    // The path is built only here. Building it for every value would cost the length of all keys above,
                    // for every value.
                    Some(first) => {
                        let text = format!("is defined twice in this file, first on line {first}");
                        let path = self.path().key(&key);
                        self.problems.error(&place, path, text);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the path of the current position.
    fn path(&self) -> KeyPath {
        self.open.iter().fold(KeyPath::default(), |path, open| match &open.shape {
            Shape::List(nodes) => path.index(nodes.len()),
            Shape::Map(_, _, Some((key, _))) => path.key(key),
            Shape::Map(_, _, None) => path,
        })
    }
}

/// Returns the cost of a copy: 1 for each value, and 1 for each [`TEXT`] bytes of a text or a key.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(size).sum::<usize>(),
        Value::Map(entries) => {
            1 + entries.iter().map(|entry| size(&entry.node) + entry.key.len() / TEXT).sum::<usize>()
        }
        Value::Text(text) => 1 + text.len() / TEXT,
        Value::Nothing | Value::Bool(_) | Value::Integer(_) | Value::Fraction(_) | Value::Other(_) => 1,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|entry| depth(&entry.node)).max().unwrap_or(0),
        Value::Nothing | Value::Bool(_) | Value::Integer(_) | Value::Fraction(_) | Value::Text(_) | Value::Other(_) => {
            0
        }
    }
}
