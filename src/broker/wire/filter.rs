//! Finds the frames in the broker's bytes, and repairs content headers and methods.

use std::{io, sync::Arc};

use super::{
    header,
    marks::Marks,
    method::{self, Said},
    repairs::Repairs,
};

/// Bytes of a frame before its payload: type, channel, size.
const HEAD: usize = 7;

/// The last byte of a frame.
const END: u8 = 0xCE;

/// RabbitMQ's usual frame size in bytes. It applies until the broker proposes its own.
const USUAL_FRAME: usize = 131_072;

/// The frame size in bytes that AMQP always allows.
const SMALLEST_FRAME: usize = 4_096;

/// The largest frame in bytes that we agree to. lapin allocates 32 times as much, twice.
const LARGEST_FRAME: usize = 1 << 20;

/// Bytes to read at once.
const BUFFER: usize = 65_536;

/// A frame that no publisher can cause. The broker is at fault, or something between it and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not one of the four types of AMQP 0-9-1.
    #[error("the broker sent a frame of type {0}, which AMQP 0-9-1 does not have")]
    Type(u8),
    /// Larger than agreed.
    #[error("the broker sent a frame of {0} bytes, which is more than was agreed")]
    Size(usize),
    /// The last byte is not the end mark.
    #[error("the broker sent a frame without its end mark")]
    End,
    /// A content header without its fixed fields.
    #[error("the broker sent a content header that is too short")]
    Header,
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, violation)
    }
}

/// The filter of one connection. Read into [`Filter::space`], report the number of bytes to [`Filter::filled`], and
/// pass on what [`Filter::take`] copies out.
#[derive(Debug)]
pub struct Filter {
    buffer: Box<[u8]>,
    /// End of the bytes that were passed on.
    start: usize,
    /// End of the bytes that may be passed on.
    ready: usize,
    /// End of the bytes that were read.
    end: usize,
    /// Bytes of the frame at `ready` to pass on as they come.
    passing: usize,
    /// Set if the frame at `ready` is a content header that was too large.
    cut: Option<Cut>,
    frame_max: usize,
    /// The largest frame that lapin asks for, else `LARGEST_FRAME`.
    asked: usize,
    /// Deliveries whose content header has not arrived yet: usually at most one.
    open: Vec<Open>,
    marks: Arc<Marks>,
}

/// Bytes to remove from the frame at `ready`.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Their position, counted from the beginning of the frame.
    at: usize,
    /// Number of bytes that are still to be dropped.
    left: usize,
}

#[derive(Debug)]
struct Open {
    channel: u16,
    /// `None` for a returned message.
    tag: Option<u64>,
    repairs: Repairs,
}

impl Filter {
    /// Creates a filter that records its repairs in `marks`. `asked` is the largest frame in bytes that lapin asks the
    /// broker for, if any.
    pub fn new(marks: Arc<Marks>, asked: Option<u32>) -> Filter {
        Filter {
            buffer: vec![0; BUFFER].into(),
            start: 0,
            ready: 0,
            end: 0,
            passing: 0,
            cut: None,
            frame_max: USUAL_FRAME,
            asked: asked.filter(|size| *size > 0).map_or(LARGEST_FRAME, |size| size as usize),
            open: Vec::new(),
            marks,
        }
    }

    /// Returns whether there is nothing to pass on.
    pub fn is_drained(&self) -> bool {
        self.start == self.ready
    }

    /// Copies as many bytes as are ready and fit into `out`, and returns their number.
    pub fn take(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.ready - self.start);
        out[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        count
    }

    /// Returns the space to read into. It is never empty once all ready bytes were taken.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.ready -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // One content header does not fit. The buffer grows to one frame at most, because a larger content header
            // is dropped as it comes.
            let mut larger = vec![0; self.frame_max.max(self.end)];
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger.into();
        }
        &mut self.buffer[self.end..]
    }

    /// Processes the next `count` bytes, which were read into [`Filter::space`].
    ///
    /// # Errors
    /// If the broker violated the protocol. The connection is then useless.
    pub fn filled(&mut self, count: usize) -> Result<(), Violation> {
        self.end = self.buffer.len().min(self.end + count);
        while self.ready < self.end {
            let there = self.end - self.ready;
            if self.passing > 0 {
                let passing = self.passing.min(there);
                self.passing -= passing;
                self.ready += passing;
            } else if !self.frame()? {
                break;
            }
        }
        Ok(())
    }

    /// Processes the frame at `ready`. Returns whether enough of it has arrived.
    fn frame(&mut self) -> Result<bool, Violation> {
        if !self.drop_cut() {
            return Ok(false);
        }
        let there = &self.buffer[self.ready..self.end];
        let Some(head) = there.first_chunk::<HEAD>() else { return Ok(false) };
        let [kind, c0, c1, s0, s1, s2, s3] = *head;
        let channel = u16::from_be_bytes([c0, c1]);
        let size = usize::try_from(u32::from_be_bytes([s0, s1, s2, s3])).unwrap_or(usize::MAX);
        let frame = size.saturating_add(HEAD + 1);
        match kind {
            METHOD | HEADER | BODY | HEARTBEAT => {}
            // The protocol header of a broker that speaks another version; lapin reports it.
            b'A' => {
                self.passing = HEAD + 1;
                return Ok(true);
            }
            other => return Err(Violation::Type(other)),
        }
        if kind == HEADER && frame > self.frame_max && self.cut.is_none() {
            return self.cut_headers(size);
        }
        if frame > self.frame_max {
            return Err(Violation::Size(frame));
        }
        if kind == BODY || kind == HEARTBEAT {
            self.passing = frame;
            return Ok(true);
        }
        if there.len() < frame {
            return Ok(false);
        }
        if there[frame - 1] != END {
            return Err(Violation::End);
        }
        let payload = self.ready + HEAD..self.ready + HEAD + size;
        let length = match kind {
            HEADER => self.content_header(channel, payload)?,
            _ => {
                self.method(channel, payload);
                size
            }
        };
        if length != size {
            self.shorten(size, length);
        }
        self.ready += HEAD + length + 1;
        Ok(true)
    }

    fn method(&mut self, channel: u16, payload: std::ops::Range<usize>) {
        let payload = &mut self.buffer[payload];
        let (said, repairs) = method::read(payload);
        let tag = match said {
            Said::Delivery(tag) => Some(tag),
            Said::Return => None,
            Said::ChannelOpen => {
                self.open.retain(|open| open.channel != channel);
                return self.marks.forget(channel);
            }
            Said::FrameMax(proposed) => {
                // 0 means that the broker has no limit.
                let proposed = if proposed == 0 { LARGEST_FRAME } else { proposed as usize };
                self.frame_max = proposed.min(self.asked).clamp(SMALLEST_FRAME, LARGEST_FRAME);
                return method::set_frame_max(payload, self.frame_max as u32);
            }
            Said::Other => return,
        };
        self.open.retain(|open| open.channel != channel);
        self.open.push(Open { channel, tag, repairs });
    }

    /// Repairs a content header, and marks its message. Returns the new length of the payload.
    fn content_header(&mut self, channel: u16, payload: std::ops::Range<usize>) -> Result<usize, Violation> {
        let readable = header::make_readable(&mut self.buffer[payload]).ok_or(Violation::Header)?;
        let mut repairs = readable.repairs;
        if self.cut.take().is_some() {
            repairs.add(Repairs::TOO_LARGE);
        }
        if let Some(position) = self.open.iter().position(|open| open.channel == channel) {
            let open = self.open.swap_remove(position);
            repairs.add(open.repairs);
            if let Some(tag) = open.tag.filter(|_| !repairs.is_empty()) {
                self.marks.add(channel, tag, repairs);
            }
        }
        Ok(readable.length)
    }

    /// Removes the headers from the content header at `ready`, which is larger than a frame may be. RabbitMQ's limit
    /// covers neither headers that it adds (`x-delivery-count`, `x-death`) nor headers that it makes from properties of
    /// AMQP 1.0. So they have no bound, and none of them is kept in memory. Returns whether enough of the frame has
    /// arrived.
    fn cut_headers(&mut self, size: usize) -> Result<bool, Violation> {
        let payload = &mut self.buffer[self.ready + HEAD..self.end];
        let Some(headers) = header::announce_no_headers(payload, size) else { return Ok(false) };
        self.cut = Some(Cut { at: HEAD + headers.start, left: headers.len() });
        self.set_size(size - headers.len());
        Ok(true)
    }

    /// Drops the bytes of the cut that have arrived. Returns whether all of them have.
    fn drop_cut(&mut self) -> bool {
        let Some(Cut { at, left }) = &mut self.cut else { return true };
        let from = self.ready + *at;
        let count = (*left).min(self.end - from);
        self.buffer.copy_within(from + count..self.end, from);
        self.end -= count;
        *left -= count;
        *left == 0
    }

    /// Shortens the payload of the frame at `ready`, and moves the bytes behind it up.
    fn shorten(&mut self, before: usize, now: usize) {
        self.set_size(now);
        let payload = self.ready + HEAD;
        self.buffer.copy_within(payload + before..self.end, payload + now);
        self.end -= before - now;
    }

    /// Writes the size of the payload into the frame at `ready`.
    fn set_size(&mut self, size: usize) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.buffer[self.ready + 3..self.ready + HEAD].copy_from_slice(&size.to_be_bytes());
    }
}

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

#[cfg(test)]
mod tests;
