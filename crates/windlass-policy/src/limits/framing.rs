//! Messages on a stream: parts of a length that comes first (four bytes, little-endian), and an empty one at the end. What a message
//! says can not be taken for the next one.

use std::io::{self, BufWriter, Read, Write};

/// Bytes of a part that is written.
const PART: usize = 64 << 10;

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
    let mut message = Vec::new();
    let mut first = true;
    loop {
        let mut length = [0; 4];
        match from.read(&mut length[..1])? {
            0 if first => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => from.read_exact(&mut length[1..])?,
        }
        first = false;
        let length = u64::from(u32::from_le_bytes(length));
        if length == 0 {
            return Ok(Some(message));
        }
        if length > PART as u64 {
            // A text comes in one part: what grows by doubling would take more than it has.
            message.reserve_exact(length as usize);
        }
        if from.take(length).read_to_end(&mut message)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
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
