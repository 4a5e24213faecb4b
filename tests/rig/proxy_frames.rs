//! The boundaries of AMQP frames in what the proxy passes on.

use std::collections::BTreeSet;

use super::proxy::Direction;

/// Tracks the boundaries of frames (AMQP 0-9-1, 2.3.5: 7 bytes of head with the size in the last 4, payload, 1 byte of
/// end).
pub(super) struct Frames {
    pub(super) head: Vec<u8>,
    /// Bytes left of the frame whose head has been read, including its end.
    pub(super) left: usize,
    /// Bytes left of the protocol header, which is not a frame.
    pub(super) greeting: usize,
}

impl Frames {
    pub(super) fn new(direction: Direction) -> Frames {
        Frames { head: Vec::new(), left: 0, greeting: if direction == Direction::ToBroker { 8 } else { 0 } }
    }

    pub(super) fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// Returns the first position among these bytes that is inside a frame's payload.
    pub(super) fn inside(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            self.step(*byte);
            if self.left > 2 {
                return Some(at + 1);
            }
        }
        None
    }

    fn step(&mut self, byte: u8) {
        if self.greeting > 0 {
            self.greeting -= 1;
        } else if self.left > 0 {
            self.left -= 1;
        } else {
            self.head.push(byte);
            if let [_, _, _, a, b, c, d] = self.head[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize + 1;
                self.head.clear();
            }
        }
    }
}

/// Passes everything but deliveries: their method, and the content that follows it on the same channel.
#[derive(Default)]
pub(super) struct Sieve {
    pub(super) begun: bool,
    /// An incomplete frame.
    pub(super) rest: Vec<u8>,
    /// Channels whose content is dropped.
    pub(super) dropping: BTreeSet<u16>,
}

impl Sieve {
    /// Filters these bytes. `before` says at which point of a frame they begin.
    pub(super) fn keep(&mut self, before: &Frames, bytes: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        let mut bytes = bytes;
        if !std::mem::replace(&mut self.begun, true) {
            // A frame that has begun is passed unchanged.
            let (begun, fresh) = bytes.split_at(before.left.min(bytes.len()));
            kept.extend_from_slice(begun);
            bytes = fresh;
        }
        self.rest.extend_from_slice(bytes);
        while let [kind, c0, c1, a, b, c, d, ..] = self.rest[..] {
            let size = u32::from_be_bytes([a, b, c, d]) as usize + 8;
            if self.rest.len() < size {
                break;
            }
            let frame: Vec<u8> = self.rest.drain(..size).collect();
            if !self.drops(kind, u16::from_be_bytes([c0, c1]), &frame[7..]) {
                kept.extend(frame);
            }
        }
        kept
    }

    /// Frames of kind 1 are methods, 2 and 3 are content; `basic.deliver` is method 60 of class 60.
    fn drops(&mut self, kind: u8, channel: u16, payload: &[u8]) -> bool {
        match kind {
            1 if payload.starts_with(&[0, 60, 0, 60]) => {
                self.dropping.insert(channel);
                true
            }
            1 => {
                self.dropping.remove(&channel);
                false
            }
            2 | 3 => self.dropping.contains(&channel),
            _ => false,
        }
    }
}
