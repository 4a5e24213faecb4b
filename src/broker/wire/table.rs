//! Tables and arrays of values, as RabbitMQ writes them and lapin reads them. One pass checks and repairs.

use super::{repairs::Repairs, text::short};

/// Levels of tables and arrays that a header may have. lapin reads them by recursion.
pub const DEPTH: u32 = 32;

/// Values that one message may have in its headers. lapin needs some 30 bytes for one of one byte.
const VALUES: u32 = 4_096;

/// The type of a byte array: a length and bytes, as a table and an array are.
const BYTES: u8 = b'x';

/// Checks the tables of one message.
pub(super) struct Walk {
    pub(super) repairs: Repairs,
    values_left: u32,
}

impl Walk {
    pub(super) fn new() -> Walk {
        Walk { repairs: Repairs::NONE, values_left: VALUES }
    }

    /// The table at `at`, which begins with its length. The position behind it; none if it is longer than `bytes`, or
    /// too short for any repair.
    pub(super) fn outermost(&mut self, bytes: &mut [u8], at: usize) -> Option<usize> {
        let content = content(bytes, at)?;
        let end = content.end;
        let content = bytes.get_mut(content)?;
        if let Err(entry) = self.table(content, 0) {
            self.repairs.add(self.fault());
            rest_as_bytes(content, entry)?;
        }
        Some(end)
    }

    /// The fault that made a table or an array unreadable.
    fn fault(&self) -> Repairs {
        if self.values_left == 0 { Repairs::TOO_MANY } else { Repairs::MALFORMED_HEADER }
    }

    /// Entries, from the beginning to the end. An error: where the entry begins that cannot be read, and where the one
    /// before it does.
    fn table(&mut self, content: &mut [u8], depth: u32) -> Result<(), Unreadable> {
        let mut entry = Unreadable { at: 0, before: 0 };
        while entry.at < content.len() {
            let (value, repaired) = short(content, entry.at).ok_or(entry)?;
            if repaired {
                self.repairs.add(Repairs::HEADER_NAME);
            }
            let next = self.value(content, value, depth).ok_or(entry)?;
            entry = Unreadable { at: next, before: entry.at };
        }
        Ok(())
    }

    fn array(&mut self, content: &mut [u8], depth: u32) -> Option<()> {
        let mut at = 0;
        while at < content.len() {
            at = self.value(content, at, depth)?;
        }
        Some(())
    }

    /// The value at `at`, which begins with its type. The position behind it; none if it cannot be read.
    fn value(&mut self, bytes: &mut [u8], at: usize, depth: u32) -> Option<usize> {
        self.values_left = self.values_left.checked_sub(1)?;
        let kind = *bytes.get(at)?;
        let behind = at + 1;
        let end = match kind {
            b'V' => behind,
            b't' | b'b' | b'B' => behind + 1,
            b's' | b'U' | b'u' => behind + 2,
            b'I' | b'i' | b'f' => behind + 4,
            b'D' => behind + 5,
            b'L' | b'l' | b'd' | b'T' => behind + 8,
            b'S' | BYTES => content(bytes, behind)?.end,
            b'F' | b'A' => {
                let content = content(bytes, behind)?;
                let end = content.end;
                let inner = bytes.get_mut(content)?;
                let readable = depth < DEPTH
                    && match kind {
                        b'F' => self.table(inner, depth + 1).is_ok(),
                        _ => self.array(inner, depth + 1).is_some(),
                    };
                if !readable {
                    bytes[at] = BYTES;
                    self.repairs.add(if depth < DEPTH { self.fault() } else { Repairs::TOO_DEEP });
                }
                end
            }
            _ => return None,
        };
        (end <= bytes.len()).then_some(end)
    }
}

/// Positions in a table.
#[derive(Clone, Copy, Debug)]
struct Unreadable {
    /// Where the unreadable entry begins.
    at: usize,
    /// Where the entry before it begins; the same if it is the first.
    before: usize,
}

/// The range behind the length at `at`; none if it goes beyond the end of `bytes`.
fn content(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = bytes.get(at..at + 4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (begin, length) = (at + 4, usize::try_from(length).ok()?);
    let end = begin.checked_add(length)?;
    (end <= bytes.len()).then_some(begin..end)
}

/// Makes one readable entry of all from the unreadable one on. It returns none without room for one: an entry takes two
/// bytes.
fn rest_as_bytes(table: &mut [u8], unreadable: Unreadable) -> Option<()> {
    let from = if table.len() - unreadable.at < 2 { unreadable.before } else { unreadable.at };
    let rest = &mut table[from..];
    match rest.len() {
        0 | 1 => return None,
        // A name of question marks, and the type of a value without content.
        length @ 2..7 => {
            rest.fill(b'?');
            rest[0] = u8::try_from(length - 2).ok()?;
            rest[length - 1] = b'V';
        }
        length => {
            let content = u32::try_from(length - 7).ok()?;
            rest.copy_within(..length - 7, 7);
            rest[..3].copy_from_slice(&[1, b'?', BYTES]);
            rest[3..7].copy_from_slice(&content.to_be_bytes());
        }
    }
    Some(())
}
