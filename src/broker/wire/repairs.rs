//! The repairs of one message: names of properties and kinds of faults, never values.

/// The short-string properties, by their flag in a content header.
const PROPERTIES: [(u32, &str); 10] = [
    (1 << 15, "content_type"),
    (1 << 14, "content_encoding"),
    (1 << 10, "correlation_id"),
    (1 << 9, "reply_to"),
    (1 << 8, "expiration"),
    (1 << 7, "message_id"),
    (1 << 5, "type"),
    (1 << 4, "user_id"),
    (1 << 3, "app_id"),
    (1 << 2, "cluster_id"),
];

/// The other repairs.
const OTHERS: [(Repairs, &str); 9] = [
    (Repairs::HEADER_NAME, "the name of a header is not UTF-8"),
    (Repairs::TOO_DEEP, "a header is nested deeper than 32 levels"),
    (Repairs::TOO_MANY, "the headers hold more than 4,096 values"),
    (Repairs::MALFORMED_HEADER, "a header is malformed"),
    (Repairs::CUT, "the properties are malformed"),
    (Repairs::TOO_LARGE, "the headers are larger than a frame"),
    (Repairs::EXCHANGE, "the exchange is not UTF-8"),
    (Repairs::ROUTING_KEY, "the routing key is not UTF-8"),
    (Repairs::OTHER_TEXT, "a text of the broker is not UTF-8"),
];

/// The repairs of one message; [`Repairs::NONE`] if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Repairs(u32);

impl Repairs {
    /// No repairs.
    pub const NONE: Repairs = Repairs(0);
    /// The name of a header, at any depth.
    pub const HEADER_NAME: Repairs = Repairs(1 << 16);
    /// A table or an array below [`super::DEPTH`] levels.
    pub const TOO_DEEP: Repairs = Repairs(1 << 17);
    /// More values than one message may have.
    pub const TOO_MANY: Repairs = Repairs(1 << 18);
    /// A table or an array that breaks its own lengths, or holds an unknown type.
    pub const MALFORMED_HEADER: Repairs = Repairs(1 << 19);
    /// The properties as a whole, whose end was cut off.
    pub const CUT: Repairs = Repairs(1 << 20);
    /// Headers that make the content header larger than a frame.
    pub const TOO_LARGE: Repairs = Repairs(1 << 21);
    /// The exchange that a delivery names.
    pub const EXCHANGE: Repairs = Repairs(1 << 22);
    /// The routing key that a delivery names.
    pub const ROUTING_KEY: Repairs = Repairs(1 << 23);
    /// A short string of another method.
    pub const OTHER_TEXT: Repairs = Repairs(1 << 24);

    /// Returns the repair of the property with this flag, which was not UTF-8.
    pub(super) fn of_property(flag: u16) -> Repairs {
        Repairs(u32::from(flag))
    }

    /// Adds a repair.
    pub(super) fn add(&mut self, other: Repairs) {
        self.0 |= other.0;
    }

    /// Returns whether nothing was repaired.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether all of `other` was repaired.
    pub fn has(self, other: Repairs) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether a text with [`Repairs::words`] names a repair that may have lost or renamed a header.
    pub fn lose_headers(words: &str) -> bool {
        let losing =
            [Repairs::HEADER_NAME, Repairs::TOO_MANY, Repairs::MALFORMED_HEADER, Repairs::CUT, Repairs::TOO_LARGE];
        losing.into_iter().any(|repair| words.contains(&repair.words()))
    }

    /// Describes the repairs for headers, logs and tables: "message_id is not UTF-8; a header is malformed".
    pub fn words(self) -> String {
        let properties = PROPERTIES.iter().filter(|(flag, _)| self.0 & flag != 0);
        let properties = properties.map(|(_, name)| format!("{name} is not UTF-8"));
        let others = OTHERS.iter().filter(|(other, _)| self.has(*other)).map(|(_, words)| (*words).to_owned());
        properties.chain(others).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_properties_and_kinds() {
        let mut repairs = Repairs::of_property(1 << 7);
        repairs.add(Repairs::MALFORMED_HEADER);
        assert_eq!(repairs.words(), "message_id is not UTF-8; a header is malformed");
        assert_eq!(Repairs::NONE.words(), "");
        assert!(Repairs::lose_headers(&format!("more; {}", repairs.words())));
        assert!(!Repairs::lose_headers(&Repairs::of_property(1 << 7).words()) && !Repairs::lose_headers(""));
    }

    #[test]
    fn each_repair_has_words_of_its_own() {
        let all = (0..32).map(|bit| Repairs(1 << bit).words()).filter(|words| !words.is_empty());
        let all: std::collections::BTreeSet<_> = all.collect();
        assert_eq!(all.len(), PROPERTIES.len() + OTHERS.len());
    }
}
