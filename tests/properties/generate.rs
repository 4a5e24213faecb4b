//! Inputs that are close enough to real ones to pass the first check.

use std::{fs, path::PathBuf};

use proptest::{
    prelude::*,
    sample::{Index, select},
};

/// Returns the committed seeds of a fuzz target: name and bytes, ordered by name.
pub fn seeds(subject: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(subject);
    let listed = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut seeds: Vec<_> = listed
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a seed"))
        })
        .collect();
    seeds.sort();
    seeds
}

/// A seed with a few edits, or arbitrary bytes.
pub fn anything(subject: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    prop_oneof![3 => edited(subject), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// A seed with a few edits.
pub fn edited(subject: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds: Vec<_> = seeds(subject).into_iter().map(|(_, bytes)| bytes).collect();
    (select(seeds), prop::collection::vec(edit(), 0..5)).prop_map(|(mut bytes, edits)| {
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes
    })
}

/// One edit, like a typing mistake or a transmission error.
#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Replace(Index, u8),
    Repeat(Index, usize),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let mark = select(&b"{}[]\"':,#&*!|>-=.\n\r\t \\$~@0\x1b\x7f\0"[..]);
    let text = prop_oneof![
        5 => mark.prop_map(|byte| vec![byte]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        1 => "[a-z]{1,8}".prop_map(String::into_bytes),
    ];
    prop_oneof![
        (any::<Index>(), text).prop_map(|(at, text)| Edit::Insert(at, text)),
        (any::<Index>(), 1usize..12).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<Index>(), 1usize..64).prop_map(|(at, length)| Edit::Repeat(at, length)),
        any::<Index>().prop_map(Edit::Cut),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let size = bytes.len();
        match self {
            Edit::Insert(at, text) => {
                let at = at.index(size + 1);
                bytes.splice(at..at, text.iter().copied());
            }
            Edit::Cut(at) => bytes.truncate(at.index(size + 1)),
            _ if size == 0 => {}
            Edit::Remove(at, length) => {
                let at = at.index(size);
                bytes.drain(at..size.min(at + length));
            }
            Edit::Replace(at, byte) => bytes[at.index(size)] = *byte,
            Edit::Repeat(at, length) => {
                let at = at.index(size);
                let part = bytes[at..size.min(at + length)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

/// JSON text of any shape, including shapes that many readers refuse. Keys come from a small alphabet, so that some are
/// repeated.
pub fn json() -> impl Strategy<Value = String> {
    let text = || "[a-c\u{e9}\u{1F980}]{0,3}".prop_map(|text| format!("{text:?}"));
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        text(),
        select(&["1e400", "-0", "-1.5E+9999", r#""\ud83d""#, r#""\udead\ud83d\n""#][..]).prop_map(str::to_owned),
        select(&[r#""\u00e9""#, r#""\ud83e\udd80""#, r#""\"\\\/\b\f\n\r\t:""#][..]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let member = (text(), inner.clone()).prop_map(|(key, value)| format!("{key} : {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(", "))),
            prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}
