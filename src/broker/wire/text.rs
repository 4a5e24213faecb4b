//! Short strings: one byte of length, then that many bytes, which lapin accepts only as UTF-8.

/// Replaces each byte that is not UTF-8.
const REPLACEMENT: u8 = b'?';

/// Makes the short string at `at` UTF-8. Returns the position behind it and whether it was repaired, or `None` if it is
/// longer than `bytes`.
pub(super) fn short(bytes: &mut [u8], at: usize) -> Option<(usize, bool)> {
    let end = at + 1 + usize::from(*bytes.get(at)?);
    let text = bytes.get_mut(at + 1..end)?;
    Some((end, make_utf8(text)))
}

/// Replaces bytes that are not UTF-8 one by one, so the length stays. Returns whether there were any.
fn make_utf8(mut text: &mut [u8]) -> bool {
    let mut repaired = false;
    while let Err(error) = std::str::from_utf8(text) {
        let from = error.valid_up_to();
        let to = error.error_len().map_or(text.len(), |length| from + length);
        text[from..to].fill(REPLACEMENT);
        repaired = true;
        text = &mut text[to..];
    }
    repaired
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[u8], after: &str) {
        let mut bytes = vec![u8::try_from(before.len()).unwrap()];
        bytes.extend(before);
        bytes.push(b'!');
        assert_eq!(short(&mut bytes, 0), Some((before.len() + 1, before != after.as_bytes())));
        assert_eq!(&bytes[1..=before.len()], after.as_bytes());
    }

    #[test]
    fn each_byte_that_is_not_utf_8_becomes_a_question_mark() {
        check(b"", "");
        check("Jörg".as_bytes(), "Jörg");
        check(b"J\xf6rg", "J?rg");
        check(b"\xff\xfe", "??");
        check(b"cut \xe2\x82", "cut ??");
        check(b"\xed\xa0\x80 a surrogate", "??? a surrogate");
        check(b"\xf6\xf6\xf6 and \xc3\xb6", "??? and ö");
    }

    #[test]
    fn a_length_beyond_the_end_is_noticed() {
        assert_eq!(short(&mut [], 0), None);
        assert_eq!(short(&mut [3, b'a', b'b'], 0), None);
        assert_eq!(short(&mut [0], 1), None);
    }
}
