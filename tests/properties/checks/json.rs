//! An independent JSON reader by the grammar of RFC 8259. It says whether bytes are one object, and which members that
//! has at the top level. It shares no code with the worker's reader.

/// A member at the top level, with key and value as they are spelled.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The key, with its quotes.
    pub key: &'a str,
    /// The value, without surrounding whitespace.
    pub value: &'a str,
}

/// Returns the members, if these bytes are exactly one object.
pub fn object(bytes: &[u8]) -> Option<Vec<Member<'_>>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader { bytes, at: 0 };
    let mut members = Vec::new();
    reader.blanks();
    reader.take(b'{')?;
    reader.blanks();
    if reader.take(b'}').is_none() {
        loop {
            let key = reader.at;
            reader.string()?;
            let key = &text[key..reader.at];
            reader.blanks();
            reader.take(b':')?;
            reader.blanks();
            let value = reader.at;
            reader.value()?;
            members.push(Member { key, value: &text[value..reader.at] });
            reader.blanks();
            if reader.take(b',').is_none() {
                reader.take(b'}')?;
                break;
            }
            reader.blanks();
        }
    }
    reader.blanks();
    (reader.at == bytes.len()).then_some(members)
}

/// Decodes a spelled string to UTF-16, which can represent every escape.
pub fn units(spelled: &str) -> Vec<u16> {
    let mut units = Vec::new();
    let mut rest = spelled[1..spelled.len() - 1].chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next() {
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).expect("four digits"));
                    continue;
                }
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                other => other.expect("an escape"),
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    units
}

/// Returns the text of a value: a string decoded, if it is valid Unicode, and otherwise the spelling.
pub fn text(value: &str) -> String {
    match value.starts_with('"') {
        true => String::from_utf16(&units(value)).unwrap_or_else(|_| value[1..value.len() - 1].to_owned()),
        false => value.to_owned(),
    }
}

/// Returns the value of the first member of that name.
pub fn get<'a>(members: &[Member<'a>], name: &str) -> Option<&'a str> {
    all(members, name).next()
}

/// Returns the values of all members of that name.
pub fn all<'a>(members: &[Member<'a>], name: &str) -> impl Iterator<Item = &'a str> {
    let name: Vec<u16> = name.encode_utf16().collect();
    members.iter().filter(move |member| units(member.key) == name).map(|member| member.value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    /// Parses any value. Open brackets are kept in a list, so that depth takes no stack.
    fn value(&mut self) -> Option<()> {
        let mut closing = Vec::new();
        loop {
            self.blanks();
            match self.peek()? {
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    let close = if open == b'{' { b'}' } else { b']' };
                    self.blanks();
                    if self.take(close).is_none() {
                        closing.push(close);
                        self.member_key(close)?;
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.word()?,
            }
            loop {
                let Some(close) = closing.last().copied() else { return Some(()) };
                self.blanks();
                if self.take(b',').is_some() {
                    self.blanks();
                    self.member_key(close)?;
                    break;
                }
                self.take(close)?;
                closing.pop();
            }
        }
    }

    /// Parses a key and its colon in an object, and nothing in an array.
    fn member_key(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.string()?;
            self.blanks();
            self.take(b':')?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' if self.take(b'u').is_some() => {
                    let digits = self.bytes.get(self.at..self.at + 4)?;
                    digits.iter().all(u8::is_ascii_hexdigit).then(|| self.at += 4)?;
                }
                b'\\' => b"\"\\/bfnrt".contains(&self.peek()?).then(|| self.at += 1)?,
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if self.take(b'e').or_else(|| self.take(b'E')).is_some() {
            let _ = self.take(b'+').or_else(|| self.take(b'-'));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn word(&mut self) -> Option<()> {
        let word =
            ["true", "false", "null"].into_iter().find(|word| self.bytes[self.at..].starts_with(word.as_bytes()))?;
        self.at += word.len();
        Some(())
    }
}
