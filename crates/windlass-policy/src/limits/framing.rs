//! Messages on a stream: parts of a length that comes first (four bytes, little-endian), and an empty one at the end. What a message
//! says can not be taken for the next one.

use std::io::{self, BufWriter, Read, Write};

/// Bytes of a part that is written.
pub(super) const PART: usize = 64 << 10;

/// Writes what `body` writes as one message, and gives its length in bytes.
///
/// # Errors
/// Those of the stream, and of `body`.
pub(super) fn write_message<W: Write>(
    to: &mut W,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let mut parts = BufWriter::with_capacity(PART, Parts { to, written: 0 });
    body(&mut parts)?;
    parts.flush()?;
    let Parts { to, written } = parts.into_inner().map_err(io::IntoInnerError::into_error)?;
    to.write_all(&[0; 4])?;
    Ok(written)
}

struct Parts<'a, W> {
    to: &'a mut W,
    written: u64,
}

impl<W: Write> Write for Parts<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(MOST as usize);
        if count > 0 {
            self.to.write_all(&(count as u32).to_le_bytes())?;
            self.to.write_all(&bytes[..count])?;
            self.written += count as u64;
        }
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a part at most.
const MOST: u32 = 1 << 30;

/// The next message; `None` where the stream ends before it.
///
/// # Errors
/// Those of the stream; it ends within the message.
pub(super) fn read_message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut message = Message::new(from);
    let mut bytes = Vec::new();
    match message.read_to_end(&mut bytes) {
        Err(_) if message.place == Place::Nothing => Ok(None),
        read => read.map(|_| Some(bytes)),
    }
}

/// The bytes of the next message, as they come.
pub(super) struct Message<'a, R> {
    from: &'a mut R,
    place: Place,
}

#[derive(Debug, PartialEq)]
enum Place {
    /// The stream ended before it.
    Nothing,
    /// Before its first part.
    Before,
    /// So much of a part is left, bytes.
    Within(u32),
    Behind,
}

impl<'a, R: Read> Message<'a, R> {
    pub fn new(from: &'a mut R) -> Self {
        Self { from, place: Place::Before }
    }

    /// Passes over the rest of it.
    ///
    /// # Errors
    /// Those of the stream; it ends within the message.
    pub fn skip(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }

    /// The length of the next part.
    fn next(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        if self.from.read(&mut length[..1])? == 0 {
            if self.place == Place::Before {
                self.place = Place::Nothing;
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.from.read_exact(&mut length[1..])?;
        self.place = match u32::from_le_bytes(length) {
            0 => Place::Behind,
            length => Place::Within(length),
        };
        Ok(())
    }
}

impl<R: Read> Read for Message<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.place {
                Place::Behind => return Ok(0),
                Place::Within(left @ 1..) => {
                    let most = buffer.len().min(left as usize);
                    let count = self.from.read(&mut buffer[..most])?;
                    if count == 0 && most > 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.place = Place::Within(left - count as u32);
                    return Ok(count);
                }
                Place::Nothing | Place::Before | Place::Within(0) => self.next()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_they_were_written() {
        let check = |messages: &[&[&[u8]]]| {
            let mut stream = Vec::new();
            for parts in messages {
                let length = write_message(&mut stream, |out| parts.iter().try_for_each(|part| out.write_all(part)));
                assert_eq!(length.unwrap() as usize, parts.concat().len());
            }
            let mut from = stream.as_slice();
            for parts in messages {
                assert_eq!(read_message(&mut from).unwrap().unwrap(), parts.concat());
            }
            assert_eq!(read_message(&mut from).unwrap(), None);
            for end in 1..stream.len().min(20) {
                let mut cut = &stream[..stream.len() - end];
                let all: io::Result<Vec<_>> = messages.iter().map(|_| read_message(&mut cut)).collect();
                assert!(all.map_or(true, |all| all.contains(&None)), "{end}");
            }
        };
        check(&[&[b"a"]]);
        check(&[&[], &[b"{}", b"\n\0\0\0\0{}"], &[b"b"]]);
        check(&[&[&[7; 3 * PART + 1], b"x", &[0; PART]], &[b"c"]]);
    }
}
