//! Checks and repairs tables and arrays of values in one pass, as RabbitMQ writes them and lapin reads them.

use super::{repairs::Repairs, text::short};

/// Most levels of tables and arrays in a header. lapin reads them by recursion.
pub const DEPTH: u32 = 32;

/// Most values in the headers of one message. lapin needs about 30 bytes for a value of one byte.
const VALUES: u32 = 4_096;

/// The type of a byte array. Like a table and an array, it is a length and bytes.
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

    /// Checks the table at `at`, which begins with its length. Returns the position behind it, or `None` if it is
    /// longer than `bytes` or too short for any repair.
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

    /// Returns the fault that made a table or an array unreadable.
    fn fault(&self) -> Repairs {
        if self.values_left == 0 { Repairs::TOO_MANY } else { Repairs::MALFORMED_HEADER }
    }

    /// Checks all entries of a table. An error has the positions of the unreadable entry and of the entry before it.
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

    /// Checks the value at `at`, which begins with its type. Returns the position behind it, or `None` if it cannot be
    /// read.
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

/// Returns the range behind the length at `at`, or `None` if it goes beyond the end of `bytes`.
fn content(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = bytes.get(at..at + 4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (begin, length) = (at + 4, usize::try_from(length).ok()?);
    let end = begin.checked_add(length)?;
    (end <= bytes.len()).then_some(begin..end)
}

/// Turns everything from the unreadable entry on into one readable entry. Returns `None` without room for the two bytes
/// that an entry takes.
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
