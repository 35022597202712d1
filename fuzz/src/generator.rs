//! Inputs for the comparison, made from a number: mostly what clients do, bent in one place.

use crate::beside_rustls::Input;
use crate::client::Move;

/// A small generator of numbers (splitmix64): the same seed gives the same numbers on every
/// machine.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below a bound, which is not zero.
    fn below(&mut self, bound: u16) -> u16 {
        let wide = (self.next() >> 32) * u64::from(bound) >> 32;
        u16::try_from(wide).expect("below a u16")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    fn one_in(&mut self, bound: u16) -> bool {
        self.below(bound) == 0
    }

    fn bytes(&mut self, most: u16) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// One of the suites.
    pub fn suite(&mut self) -> u8 {
        self.byte()
    }

    /// One input.
    pub fn input(&mut self) -> Input {
        let moves = (0..=self.below(3)).map(|_| self.one_move()).collect();
        let pieces = match self.below(16) {
            0 => vec![1],
            1..5 => vec![1 + self.below(40)],
            5..8 => vec![self.below(300), self.below(30), self.below(9)],
            _ => Vec::new(),
        };
        let answer = match self.below(128) {
            0 => self.next().to_le_bytes()[..2]
                .iter()
                .fold(0, |high, &low| high << 8 | u16::from(low)),
            1..32 => 0,
            _ => 1 + self.below(48),
        };
        Input {
            moves,
            pieces,
            answer,
        }
    }

    fn one_move(&mut self) -> Move {
        match self.below(64) {
            0..20 => Move::Say(self.bytes(40)),
            20..28 => Move::Pad {
                content: self.bytes(20),
                zeros: self.below(40),
            },
            28..38 => Move::UpdateKey {
                and_theirs: self.one_in(2),
                cut: self.byte(),
            },
            38..41 => Move::Alert {
                level: 1 + self.byte() % 2,
                description: *self.any(&[0, 0, 10, 20, 22, 40, 50, 80, 90, 90, 100, 112, 255]),
            },
            41..45 => Move::Seal {
                kind: *self.any(&[0, 20, 21, 22, 22, 23, 24, 25, 255]),
                content: self.bytes(8),
            },
            45..50 => self.handshake(),
            50..54 => Move::Tamper {
                at: self.below(64),
                with: 1 << self.below(8),
            },
            54..57 => Move::Raw(self.header()),
            57 => Move::Repeat,
            58 => Move::Truncate(1 + self.byte() % 24),
            59 => self.much(),
            _ => Move::Say(self.bytes(3)),
        }
    }

    fn any<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let length = u16::try_from(all.len()).expect("a short list");
        &all[usize::from(self.below(length))]
    }

    /// A key update with a byte changed, cut off or added, or the beginning of another message.
    fn handshake(&mut self) -> Move {
        let mut content = vec![24, 0, 0, 1, self.byte() & 1];
        let place = usize::from(self.below(5));
        match self.below(5) {
            0 => content[place] ^= 1 << self.below(8),
            1 => content.truncate(place),
            2 => content.push(self.byte()),
            3 => content.extend_from_within(..),
            _ => {
                let length = self.below(12);
                content = vec![*self.any(&[0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 24, 254])];
                content.extend([0, 0, length.to_le_bytes()[0]]);
                content.extend(self.bytes(12));
            }
        }
        if self.one_in(3) {
            content.push(22);
            content.resize(content.len() + usize::from(self.below(20)), 0);
            return Move::Seal { kind: 0, content };
        }
        Move::Seal { kind: 22, content }
    }

    /// A header of any type and length, perhaps with something behind it.
    fn header(&mut self) -> Vec<u8> {
        let kind = *self.any(&[20, 21, 22, 23, 23, 23, 23, 24, 0, 255]);
        let length = *self.any(&[
            0, 1, 2, 15, 16, 17, 18, 40, 16384, 16400, 16401, 16640, 16641, 65535,
        ]);
        let [high, low] = u16::to_be_bytes(length);
        let mut header = vec![kind, 3, 3, high, low];
        header.extend(self.bytes(20));
        header
    }

    /// About as much as a record holds.
    fn much(&mut self) -> Move {
        let byte = self.byte();
        let length = match self.below(4) {
            0 => 16384 - 2 + self.below(5),
            1 => 16640 - 24 + self.below(32),
            _ => self.below(16385),
        };
        if self.one_in(2) {
            return Move::SayMuch { byte, length };
        }
        // The same with padding.
        let content = self.bytes(8);
        Move::Pad {
            zeros: length - 16.min(length),
            content,
        }
    }
}
