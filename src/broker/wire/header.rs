//! Content headers: class, weight, body size, flags, and the properties that the flags announce.

use std::ops::Range;

use super::{repairs::Repairs, table::Walk, text::short};

/// Bytes before the properties.
const FIXED: usize = 14;

/// Position of the flags.
const FLAGS: usize = 12;

/// The flag that announces headers.
const HEADERS: u16 = 1 << 13;

/// Flags that announce a property. Of the other two, one announces more flags, and one is unused.
const KNOWN: u16 = !0b11;

/// The payload of a content header that lapin can read.
pub(super) struct Readable {
    /// Its length in bytes after the repairs.
    pub(super) length: usize,
    /// The repairs.
    pub(super) repairs: Repairs,
}

/// Checks a content header and repairs it in place. Returns `None` if it is too short to be one.
pub(super) fn make_readable(payload: &mut [u8]) -> Option<Readable> {
    let mut flags = flags(payload)?;
    let mut walk = Walk::new();
    let mut at = FIXED;
    // With more flags before the properties, no property can be read reliably.
    let mut wanted = if flags & 1 == 0 { flags & KNOWN } else { 0 };
    while wanted != 0 {
        let flag = 1 << (15 - wanted.leading_zeros());
        match property(payload, at, flag, &mut walk) {
            Some(end) => at = end,
            // This property and all behind it are cut off.
            None => break,
        }
        wanted &= !flag;
    }
    if wanted != 0 || at != payload.len() || flags & !KNOWN != 0 {
        walk.repairs.add(Repairs::CUT);
        flags = match flags & 1 {
            0 => flags & KNOWN & !wanted,
            _ => 0,
        };
        payload[FLAGS..FIXED].copy_from_slice(&flags.to_be_bytes());
    }
    Some(Readable { length: at, repairs: walk.repairs })
}

/// Number of bytes that include everything before the headers of a content header, and the length of its headers.
const BEGINNING: usize = FIXED + 2 * 256 + 4;

/// Clears the flag of the headers at the beginning of a content header of `size` bytes. Returns the range of the
/// headers, or of all properties if the headers cannot be found. Returns `None` if more of the content header is
/// needed.
pub(super) fn announce_no_headers(payload: &mut [u8], size: usize) -> Option<Range<usize>> {
    if payload.len() < BEGINNING {
        return None;
    }
    let flags = flags(payload)?;
    if flags & HEADERS == 0 || flags & 1 != 0 {
        return Some(FIXED..size);
    }
    payload[FLAGS..FIXED].copy_from_slice(&(flags & !HEADERS).to_be_bytes());
    let before = [1 << 15, 1 << 14].into_iter().filter(|flag| flags & flag != 0);
    let begin = before.fold(FIXED, |at, _| at + 1 + usize::from(payload[at]));
    let length = u32::from_be_bytes(payload[begin..begin + 4].try_into().ok()?);
    Some(begin..size.min(begin.saturating_add(4).saturating_add(length as usize)))
}

fn flags(payload: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(payload.get(FLAGS..FIXED)?.try_into().ok()?))
}

/// Returns the position behind the property at `at`, or `None` if it does not fit.
fn property(payload: &mut [u8], at: usize, flag: u16, walk: &mut Walk) -> Option<usize> {
    const DELIVERY_MODE: u16 = 1 << 12;
    const PRIORITY: u16 = 1 << 11;
    const TIMESTAMP: u16 = 1 << 6;
    let end = match flag {
        HEADERS => walk.outermost(payload, at)?,
        DELIVERY_MODE | PRIORITY => at + 1,
        TIMESTAMP => at + 8,
        _ => {
            let (end, repaired) = short(payload, at)?;
            if repaired {
                walk.repairs.add(Repairs::of_property(flag));
            }
            end
        }
    };
    (end <= payload.len()).then_some(end)
}
