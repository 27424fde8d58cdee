//! Cutting a stream of bytes into JSON values.

use serde_json::Value;

/// Longest value in bytes.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// One thing that the peer said.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A JSON value.
    Value(Value),
    /// Something else, and what is wrong with it.
    Malformed(String),
}

/// Bytes that are not a whole value yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Too much has come: ignore everything up to the end of the line.
    skipping: bool,
}

impl Inbox {
    /// Takes bytes in and gives back what is complete. Values need no newline between or after them.
    pub fn take_in(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        if self.skipping {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return messages };
            rest = &rest[end + 1..];
            self.skipping = false;
        }
        self.bytes.extend(rest);
        // Nothing can be complete without the end of a value; this keeps a large value from being read again for each piece of it.
        if rest.iter().any(|byte| matches!(byte, b'}' | b']' | b'\n')) {
            self.cut(&mut messages);
        }
        if self.bytes.len() > MAX_MESSAGE {
            self.skipping = !bytes.ends_with(b"\n");
            self.bytes = Vec::new();
            messages.push(Message::Malformed(format!("JSON value is longer than {MAX_MESSAGE} bytes")));
        }
        messages
    }

    fn cut(&mut self, messages: &mut Vec<Message>) {
        let mut start = 0;
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.bytes[start..]).into_iter::<Value>();
            match values.next() {
                None => {
                    self.bytes.clear();
                    return;
                }
                Some(Ok(value)) => {
                    start += values.byte_offset();
                    messages.push(Message::Value(value));
                }
                Some(Err(error)) if error.is_eof() => {
                    self.bytes.drain(..start);
                    return;
                }
                Some(Err(error)) => {
                    messages.push(Message::Malformed(format!("Invalid JSON syntax: {error}")));
                    // What came up to the end of that line is lost; the next one may be whole.
                    let mut ends = self.bytes[start..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
                    let Some((end, _)) = ends.nth(error.line().saturating_sub(1)) else {
                        self.bytes.clear();
                        return;
                    };
                    start += end + 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_in_any_pieces() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take_in(b"{\"a\": {\"b\""), []);
        assert_eq!(inbox.take_in(b": 1}\n"), []);
        assert_eq!(
            inbox.take_in(b"}{\"c\": [2]}"),
            [Message::Value(json!({"a": {"b": 1}})), Message::Value(json!({"c": [2]}))]
        );
        assert_eq!(inbox.take_in(b"\r\n"), []);
    }

    #[test]
    fn bad_lines_are_told_and_the_next_is_read() {
        let mut inbox = Inbox::default();
        let messages = inbox.take_in(b"hello\n{\"a\": nope}\n{}\n");
        assert!(
            matches!(messages[..], [Message::Malformed(_), Message::Malformed(_), Message::Value(_)]),
            "{messages:?}"
        );
        let messages = inbox.take_in(&[b'['; 1000]);
        assert_eq!(messages, []);
        // Too deep.
        assert!(matches!(inbox.take_in(b"\n")[..], [Message::Malformed(_)]));
        // Too long.
        let mut said = Vec::new();
        said.extend(inbox.take_in(b"{\"a\": \""));
        for _ in 0..100 {
            said.extend(inbox.take_in(&[b'x'; 4096]));
        }
        assert!(matches!(said[..], [Message::Malformed(_)]), "{said:?}");
        assert!(inbox.bytes.is_empty());
        assert_eq!(inbox.take_in(b"xx\"}\n{}\n"), [Message::Value(json!({}))]);
    }
}
