//! The fields of a RON struct as text, so that what we do not know is written back exactly as it was.

use serde::de::DeserializeOwned;

/// A field: its name, the text of its value, and the line (from 1) on which the value begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub value: String,
    pub line: usize,
}

/// A mistake in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub line: usize,
    pub what: String,
}

/// Splits `(name: value, …)`, which must be RON, into fields. `first_line` is the line of the text's beginning.
pub fn fields(text: &str, first_line: usize) -> Result<Vec<Field>, Mistake> {
    if let Err(error) = ron::from_str::<ron::Value>(text) {
        return Err(Mistake {
            line: first_line + error.span.start.line.saturating_sub(1),
            what: error.code.to_string(),
        });
    }
    let inner =
        inside(text).ok_or(Mistake { line: first_line, what: "this is not a list of “name: value”".into() })?;
    let mut found = Vec::new();
    for (start, piece) in pieces(inner.1) {
        let Some(colon) = top_level(piece, ':') else { continue };
        let name = last_word(&piece[..colon]);
        let value = piece[colon + 1..].trim();
        let at = inner.0 + start + colon + 1 + leading(&piece[colon + 1..]);
        let line = first_line + text[..at].matches('\n').count();
        found.push(Field { name, value: value.to_owned(), line });
    }
    Ok(found)
}

/// Splits `[a, b, …]` into the text of its items with their lines.
pub fn items(text: &str, first_line: usize) -> Vec<(String, usize)> {
    let Some((offset, inner)) = inside(text) else { return Vec::new() };
    pieces(inner)
        .into_iter()
        .filter(|(_, piece)| !piece.trim().is_empty())
        .map(|(start, piece)| {
            let at = offset + start + leading(piece);
            (piece.trim().to_owned(), first_line + text[..at].matches('\n').count())
        })
        .collect()
}

/// Takes the field `name` out of `fields` and reads it.
pub fn take<T: DeserializeOwned>(fields: &mut Vec<Field>, name: &str) -> Result<Option<T>, Mistake> {
    let Some(index) = fields.iter().position(|field| field.name == name) else { return Ok(None) };
    let field = fields.remove(index);
    ron::from_str(&field.value).map(Some).map_err(|error| Mistake {
        line: field.line + error.span.start.line.saturating_sub(1),
        what: format!("{name}: {}", error.code),
    })
}

fn leading(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// What is between the first opening and the last closing bracket, and where it begins.
fn inside(text: &str) -> Option<(usize, &str)> {
    let open = first_bracket(text)?;
    let close = text.rfind([')', ']', '}'])?;
    (close > open).then(|| (open + 1, &text[open + 1..close]))
}

/// The last word before the colon: what is before it are comments.
fn last_word(text: &str) -> String {
    let text = text.trim_end();
    let start = text
        .rfind(|letter: char| !(letter.is_alphanumeric() || matches!(letter, '_' | '#')))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    text[start..].trim_start_matches("r#").to_owned()
}

fn first_bracket(text: &str) -> Option<usize> {
    Scan::new(text).find(|(_, letter, _)| matches!(letter, '(' | '[' | '{')).map(|(at, ..)| at)
}

fn top_level(text: &str, wanted: char) -> Option<usize> {
    Scan::new(text).find(|&(_, letter, depth)| letter == wanted && depth == 0).map(|(at, ..)| at)
}

/// The text between top-level commas, with the offset of each piece.
fn pieces(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, letter, depth) in Scan::new(text) {
        if letter == ',' && depth == 0 {
            found.push((start, &text[start..at]));
            start = at + 1;
        }
    }
    found.push((start, &text[start..]));
    found
}

/// Walks over RON text and yields (offset, letter, depth of brackets before it), leaving out comments and what is in quotes.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Moves behind `end` (or to the end of the text), starting `skip` bytes further on.
    fn behind(&mut self, skip: usize, end: &str) {
        let from = (self.at + skip).min(self.text.len());
        self.at = self.text[from..].find(end).map_or(self.text.len(), |found| from + found + end.len());
    }

    fn string(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while self.at < bytes.len() && bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + 1).min(bytes.len());
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.text.len() {
            let rest = &self.text.as_bytes()[self.at..];
            if rest.starts_with(b"/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8);
            }
        }
    }

    /// `r"…"`, `r#"…"#`: the number of hashes, where a raw string begins here.
    fn raw_string(&self) -> Option<usize> {
        let rest = self.text[self.at..].strip_prefix('r')?;
        let hashes = rest.bytes().take_while(|&byte| byte == b'#').count();
        rest[hashes..].starts_with('"').then_some(hashes)
    }
}

impl Iterator for Scan<'_> {
    type Item = (usize, char, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = &self.text[self.at..];
            let letter = rest.chars().next()?;
            if rest.starts_with("//") {
                self.behind(2, "\n");
            } else if rest.starts_with("/*") {
                self.block_comment();
            } else if letter == '"' {
                self.string();
            } else if letter == '\'' && rest.len() > 2 {
                // A character: at least one letter, escaped or not, then the closing quote.
                let skip = if rest[1..].starts_with('\\') {
                    3
                } else {
                    1 + rest[1..].chars().next().map_or(1, char::len_utf8)
                };
                self.behind(skip, "'");
            } else if let Some(hashes) = self.raw_string() {
                self.behind(2 + hashes, &format!("\"{}", "#".repeat(hashes)));
            } else {
                let at = self.at;
                self.at += letter.len_utf8();
                let depth = self.depth;
                match letter {
                    '(' | '[' | '{' => self.depth += 1,
                    ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                return Some((at, letter, depth));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_text() {
        let text = "// (head: er)\n(\n  a: 1, // one, two: three\n  b: \"x, ) \\\" y\",\n  c: Some((d: [1, 2], e: r#\"\"),\"#)),\n  /* f: 1, */ g: 'x',\n)";
        let found = fields(text, 1).unwrap();
        let short: Vec<_> = found.iter().map(|field| (field.name.as_str(), field.value.as_str(), field.line)).collect();
        assert_eq!(
            short,
            [
                ("a", "1", 3),
                ("b", "\"x, ) \\\" y\"", 4),
                ("c", "Some((d: [1, 2], e: r#\"\"),\"#))", 5),
                ("g", "'x'", 6)
            ]
        );
        assert_eq!(items("[(a: 1),\n (b: [2, 3]), ]", 7), [("(a: 1)".to_owned(), 7), ("(b: [2, 3])".to_owned(), 8)]);
    }

    #[test]
    fn mistakes_say_their_line() {
        assert_eq!(fields("(\n a: 1,\n b: ,\n)", 1).unwrap_err().line, 3);
        let mut found = fields("(\n a: 1,\n b: \"x\",\n)", 1).unwrap();
        assert_eq!(take::<u32>(&mut found, "b").unwrap_err().line, 3);
        assert_eq!(take::<u32>(&mut found, "a").unwrap(), Some(1));
    }
}
