//! The heads of HTTP/2 frames in a stream of bytes (RFC 9113 §4.1), in whatever pieces they come.

/// The client's preface, before its first frame.
const PREFACE: usize = 24;
/// A frame's length, type, flags and stream.
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Where in a stream of frames a reader stands.
#[derive(Clone)]
pub(super) struct Frames {
    /// Bytes to pass before the next frame's head.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], have: 0 }
    }
}

impl Frames {
    /// Passes over bytes. `opens` is told the stream of every frame that begins a request or ends one.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut opens: impl FnMut(u32)) {
        while !bytes.is_empty() {
            let (skipped, rest) = bytes.split_at(self.skip.min(bytes.len()));
            self.skip -= skipped.len();
            let (part, rest) = rest.split_at((HEAD - self.have).min(rest.len()));
            for (to, from) in self.head.iter_mut().skip(self.have).zip(part) {
                *to = *from;
            }
            self.have += part.len();
            bytes = rest;
            if self.have < HEAD {
                continue;
            }
            self.have = 0;
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
            self.skip = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX);
            if kind == HEADERS || (kind == DATA && flags & END_STREAM != 0) {
                opens(u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        // Payload that looks like heads of frames.
        frame.extend((0..length).map(|at| u8::from(at % 9 == 3)));
        frame
    }

    #[test]
    fn heads_are_found_in_pieces_of_every_size() {
        let frames = [
            vec![1; PREFACE],
            frame(4, 0, 0, 0),
            frame(HEADERS, 4, 1, 40),
            frame(DATA, 0, 1, 30),
            frame(DATA, END_STREAM, 1, 0),
            frame(8, 0, 0, 4),
            frame(HEADERS, 5, 3, 1),
        ];
        let bytes = frames.concat();
        for size in 1..=bytes.len() {
            let (mut reader, mut seen) = (Frames::default(), vec![]);
            bytes.chunks(size).for_each(|piece| reader.pass(piece, |stream| seen.push(stream)));
            assert_eq!(seen, [1, 1, 3], "pieces of {size}");
        }
    }
}
