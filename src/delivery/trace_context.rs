//! Selects the `traceparent` values that travel with a job to the receiver (W3C Trace Context, Recommendation of 2021,
//! section 3.2).

/// The longest value that is kept, in bytes. Version 00 has 55 bytes; a later version may append fields.
const LONGEST: usize = 256;

/// Lengths of version, trace id, parent id and flags, in hex digits.
const FIELDS: [usize; 4] = [2, 32, 16, 2];

/// Returns whether this is a `traceparent` that a receiver can continue: `<version>-<trace-id>-<parent-id>-<flags>` in
/// lower-case hex, with ids that are not all zeros. Version `ff` is forbidden, and version `00` has no further fields.
pub fn is_traceparent(value: &str) -> bool {
    let mut fields = value.split('-');
    let mut is_field = |length| fields.next().filter(|field| field.len() == length && field.bytes().all(is_hex));
    let [Some(version), Some(trace), Some(parent), Some(_flags)] = FIELDS.map(&mut is_field) else { return false };
    let is_version = if version == "00" { fields.next().is_none() } else { version != "ff" };
    let is_id = |id: &str| id.bytes().any(|byte| byte != b'0');
    // Fields that a later version appends go into the header too, so they must be visible ASCII.
    let is_header_value = value.len() <= LONGEST && value.bytes().all(|byte| byte.is_ascii_graphic());
    is_version && is_id(trace) && is_id(parent) && is_header_value
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_is_one_by_the_specification() {
        let later = format!("cc{}-and-more", &TRACE[2..]);
        let one_bit = "00-00000000000000000000000000000001-1000000000000000-00";
        let without_more = format!("cc{}", &TRACE[2..]);
        for valid in [TRACE, &later, one_bit, &without_more] {
            assert!(is_traceparent(valid), "{valid:?}");
        }
        let without_trace = TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let without_parent = TRACE.replace("00f067aa0ba902b7", &"0".repeat(16));
        let later_without = format!("cc{}", &without_parent[2..]);
        for zeros in [&without_trace, &without_parent, &later_without] {
            assert!(!is_traceparent(zeros), "{zeros:?}");
        }
        let (upper, longer, forbidden) = (TRACE.to_uppercase(), format!("{TRACE}-more"), format!("ff{}", &TRACE[2..]));
        let dashes = "-".repeat(55);
        for invalid in ["", "x", "00-é", "a\r\nb: c", &upper, &longer, &TRACE[..54], &forbidden, &dashes] {
            assert!(!is_traceparent(invalid), "{invalid:?}");
        }
        let long = "a".repeat(256);
        for appended in ["é", "a\tb", "a b", &long] {
            assert!(!is_traceparent(&format!("{later}-{appended}")), "{appended:?}");
        }
    }
}
