//! How chips write fixed blocks of bytes into a saved state: as one string of hexadecimal digits.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes `bytes`, for `#[serde(with = "crate::dev::bytes")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * N);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    serializer.serialize_str(&text)
}

/// Reads back exactly `N` bytes.
///
/// # Errors
/// Where the text has another length or holds something that is not a hexadecimal digit.
pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() != 2 * N {
        return Err(D::Error::custom(format!("{} hexadecimal digits instead of {}", text.len(), 2 * N)));
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| {
            char::from(pair[at])
                .to_digit(16)
                .ok_or_else(|| D::Error::custom("something that is not a hexadecimal digit"))
        };
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Ok(bytes)
}
