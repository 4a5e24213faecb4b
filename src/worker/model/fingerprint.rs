//! Fingerprints of 128 bits, which recognize a state without keeping it.

use std::hash::{Hash, Hasher};

struct Lanes(u64, u64);

/// Returns the fingerprint of a state. Two states with the same one count as one: among a million, the odds are about
/// one in 10^26.
pub fn of(value: &impl Hash) -> u128 {
    let mut lanes = Lanes(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
    value.hash(&mut lanes);
    u128::from(spread(lanes.0 ^ lanes.1.rotate_left(32))) << 64 | u128::from(spread(lanes.1))
}

fn spread(mut lane: u64) -> u64 {
    for _ in 0..2 {
        lane = (lane ^ (lane >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    lane ^ (lane >> 29)
}

impl Hasher for Lanes {
    fn finish(&self) -> u64 {
        self.0 ^ self.1
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29);
        self.1 = (self.1.rotate_left(23) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
}
