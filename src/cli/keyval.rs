//! `key=value,key=value` as QEMU users write it: the first key may be left out, “,,” is a comma in a value, and a key alone
//! means `key=on` (`nokey`: `key=off`).

use super::{CliError, refuse};

/// The pairs of one argument, each of which somebody has to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVal {
    /// The option, for messages.
    option: String,
    pairs: Vec<(String, String)>,
}

impl KeyVal {
    /// Parses `text`, the argument of `option`; a first part without “=” is the value of `first`.
    pub fn parse(option: &str, text: &str, first: Option<&str>) -> Result<Self, CliError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (index, part) in split(text).into_iter().enumerate() {
            let (key, value) = match (part.split_once('='), first) {
                (Some((key, value)), _) => (key.to_owned(), value.to_owned()),
                (None, Some(first)) if index == 0 => (first.to_owned(), part),
                (None, _) => match part.strip_prefix("no") {
                    Some(key) if matches!(key, "wait" | "server" | "delay") => (key.to_owned(), "off".to_owned()),
                    _ => (part, "on".to_owned()),
                },
            };
            if key.is_empty() {
                return refuse(format!("{option} {text}: a name is missing before or after a comma"));
            }
            if pairs.iter().any(|(known, _)| *known == key) {
                return refuse(format!("{option}: “{key}” is given twice"));
            }
            pairs.push((key, value));
        }
        Ok(Self { option: option.to_owned(), pairs })
    }

    /// Takes the value of `key`.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let index = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.remove(index).1)
    }

    /// Takes the value of `key`, which must be there.
    pub fn need(&mut self, key: &str) -> Result<String, CliError> {
        self.take(key).ok_or_else(|| CliError(format!("{}: “{key}=” is missing", self.option)))
    }

    /// Takes a switch: on or off.
    pub fn switch(&mut self, key: &str) -> Result<Option<bool>, CliError> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("on" | "yes" | "true") => Ok(Some(true)),
            Some("off" | "no" | "false") => Ok(Some(false)),
            Some(other) => refuse(format!("{} {key}={other}: must be on or off", self.option)),
        }
    }

    /// Takes a number, decimal or hexadecimal.
    pub fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Result<Option<T>, CliError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let value = number(&text).and_then(|value| T::try_from(value).ok());
        value.map(Some).ok_or_else(|| CliError(format!("{} {key}={text}: not a number that fits", self.option)))
    }

    /// Whatever is left is not supported: names it and lists `known`.
    pub fn finish(self, known: &str) -> Result<(), CliError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, value)) => {
                refuse(format!("{} {key}={value}: “{key}” is not supported; supported: {known}", self.option))
            }
        }
    }
}

/// A number, decimal or hexadecimal.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (',', Some(part)) if chars.next_if_eq(&',').is_some() => part.push(','),
            (',', _) => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_switches_and_commas() {
        let mut pairs = KeyVal::parse("-qmp", "/tmp/a,,b,server,nowait,x=0x10", Some("path")).unwrap();
        assert_eq!(pairs.take("path").as_deref(), Some("/tmp/a,b"));
        assert_eq!(pairs.switch("server").unwrap(), Some(true));
        assert_eq!(pairs.switch("wait").unwrap(), Some(false));
        assert_eq!(pairs.number::<u8>("x").unwrap(), Some(16));
        pairs.finish("").unwrap();
        let rest = KeyVal::parse("-drive", "cache=none", None).unwrap();
        assert!(rest.finish("file").unwrap_err().to_string().contains("cache"));
        assert!(KeyVal::parse("-drive", "file=a,,", None).is_ok());
        assert!(KeyVal::parse("-drive", "file=a,", None).is_err());
        assert!(KeyVal::parse("-drive", "if=a,if=b", None).is_err());
    }
}
