//! Methods that the broker sends. Some carry short strings from upstream: the exchange and the routing key of a
//! delivery.

use super::{repairs::Repairs, table::Walk, text::short};

/// The meaning of a method for the filter.
pub(super) enum Said {
    /// A content header follows for the message with this delivery tag.
    Delivery(u64),
    /// A content header follows for a message that was returned to us.
    Return,
    /// The broker has opened this channel, so its delivery tags begin again.
    ChannelOpen,
    /// The largest frame that the broker proposes.
    FrameMax(u32),
    /// Nothing that matters here.
    Other,
}

/// One argument of a method.
#[derive(Clone, Copy)]
enum Argument {
    /// This number of bytes.
    Bytes(usize),
    /// A short string, and the repair to record for it.
    Text(Repairs),
    /// A table.
    Table,
}

use Argument::{Bytes, Table, Text};

const TEXT: Argument = Text(Repairs::OTHER_TEXT);
const EXCHANGE: Argument = Text(Repairs::EXCHANGE);
const ROUTING_KEY: Argument = Text(Repairs::ROUTING_KEY);

/// Returns the arguments of a method up to its last text; none for a method without text. The numbers are those of AMQP
/// 0-9-1, section 1.2.
fn arguments(class: u16, method: u16) -> &'static [Argument] {
    match (class, method) {
        // connection.start; .open-ok, .blocked; .close, and channel.close
        (10, 10) => &[Bytes(2), Table],
        (10, 41 | 60) => &[TEXT],
        (10, 50) | (20, 40) => &[Bytes(2), TEXT],
        // queue.declare-ok
        (50, 11) => &[TEXT],
        // basic.consume-ok, .cancel, .cancel-ok, .get-empty
        (60, 21 | 30 | 31 | 72) => &[TEXT],
        // basic.return
        (60, 50) => &[Bytes(2), TEXT, EXCHANGE, ROUTING_KEY],
        // basic.deliver
        (60, 60) => &[TEXT, Bytes(9), EXCHANGE, ROUTING_KEY],
        // basic.get-ok
        (60, 71) => &[Bytes(9), EXCHANGE, ROUTING_KEY],
        _ => &[],
    }
}

/// Repairs the texts of a method in place. Leaves arguments that do not fit, because then the broker is at fault and
/// lapin reports it.
pub(super) fn read(payload: &mut [u8]) -> (Said, Repairs) {
    let Some(ids) = number(payload, 0, 4) else { return (Said::Other, Repairs::NONE) };
    let (class, method) = ((ids >> 16) as u16, ids as u16);
    let mut walk = Walk::new();
    let mut at = 4;
    let mut first_text_ends = at;
    for argument in arguments(class, method) {
        let end = match argument {
            Bytes(count) => Some(at + count),
            Table => walk.outermost(payload, at),
            Text(repair) => short(payload, at).map(|(end, repaired)| {
                if repaired {
                    walk.repairs.add(*repair);
                }
                end
            }),
        };
        let Some(end) = end else { return (Said::Other, walk.repairs) };
        if at == 4 {
            first_text_ends = end;
        }
        at = end;
    }
    let said = match (class, method) {
        (60, 60) => number(payload, first_text_ends, 8).map(Said::Delivery),
        (60, 71) => number(payload, 4, 8).map(Said::Delivery),
        (60, 50) => Some(Said::Return),
        (20, 11) => Some(Said::ChannelOpen),
        (10, 30) => number(payload, 6, 4).map(|size| Said::FrameMax(size as u32)),
        _ => None,
    };
    (said.unwrap_or(Said::Other), walk.repairs)
}

/// Reads a number of up to eight bytes at `at`.
fn number(payload: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let digits = payload.get(at..at + bytes)?;
    Some(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Writes the largest frame size into a `connection.tune`.
pub(super) fn set_frame_max(payload: &mut [u8], size: u32) {
    if let Some(bytes) = payload.get_mut(6..10) {
        bytes.copy_from_slice(&size.to_be_bytes());
    }
}
