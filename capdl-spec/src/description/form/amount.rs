//! Invalid numbers and sizes: too large, too small, in quotes, in another unit.

use toml::de::DeValue;

use crate::{
    checks,
    description::{keys::Key, system::Bytes},
};

/// What is wrong with a value that is not a number, or is out of its key's range.
pub(super) fn wrong_number(key: &Key, value: &DeValue, element: bool) -> Option<(String, String)> {
    let Key { name, what, example, .. } = key;
    if !element && example.ends_with(']') {
        return None;
    }
    let of_numbers = is_number(example_value(example));
    if !of_numbers && example_value(example) != "true" {
        return None;
    }
    match value {
        DeValue::Integer(number) if of_numbers => {
            let text = number.to_string();
            // The parser does not say what is wrong with numbers of more than 64 bits.
            let small = text.starts_with('-') || text == "0";
            let how = if small { "small" } else { "large" };
            let remedy = format!("write for example: {example}");
            Some((format!("the number {text} is too {how} for `{name}`, which is {what}"), remedy))
        }
        DeValue::String(text) => {
            let message = format!("`{name}` is {what}, not the text `{text}`");
            let write = |number: &str| example.replace(example_value(example), number);
            let text = text.trim();
            if is_number(text) || text == "true" || text == "false" {
                return Some((message, format!("write it without quotes: {}", write(text))));
            }
            let bytes = bytes(text).filter(|_| *name == "size")?;
            Some((message, format!("write the bytes, without quotes: {}", write(&format!("{bytes:#x}")))))
        }
        _ => None,
    }
}

/// What is wrong with a text that is not a size.
pub(super) fn wrong_size(key: &Key, text: &str) -> Option<(String, String)> {
    if key.what != "a size" {
        return None;
    }
    let most = if key.name == "dma_memory" { checks::MOST_DMA_MEMORY } else { checks::RAM_END };
    let wrong = format!("`{text}` is not a size");
    let Some(bytes) = bytes(text.trim().trim_start_matches('-')) else {
        return Some((wrong, "write a whole number and KiB, MiB or GiB, like \"128 MiB\"".into()));
    };
    if bytes > most {
        return Some((
            format!("`{text}` is too large for `{}`", key.name),
            format!("write \"{}\" at most", Bytes(most)),
        ));
    }
    Some((wrong, format!("write \"{}\"", Bytes(bytes))))
}

/// Reads a size that is not written as descriptions write sizes, and rounds it to whole KiB, or to MiB from 1 MiB on. A
/// large number without a unit counts bytes, a small one MiB.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text.get(..digits)?.parse::<f64>().ok()?, text.get(digits..)?.trim().to_ascii_lowercase());
    const MIB: f64 = 1048576.0;
    let scale = match unit.as_str() {
        "" if number < MIB => MIB,
        "" | "b" | "bytes" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => MIB,
        "g" | "gb" | "gib" => 1024.0 * MIB,
        "t" | "tb" | "tib" => MIB * MIB,
        _ => return None,
    };
    // Saturates at 64 bits.
    let bytes = (number * scale) as u64;
    let step: u64 = if bytes < 1 << 20 { 1 << 10 } else { 1 << 20 };
    Some(bytes.max(1).checked_next_multiple_of(step).unwrap_or(u64::MAX))
}

/// The value in `key = value` or `key = [value]`.
fn example_value(example: &str) -> &str {
    let value = example.split_once('=').map_or("", |(_, value)| value.trim());
    value.trim_start_matches('[').trim_end_matches(']')
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match digits.strip_prefix("0x") {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood_in_other_forms() {
        for (text, size) in [
            ("128", 128 << 20),
            ("134217728", 128 << 20),
            ("128M", 128 << 20),
            ("128 mb", 128 << 20),
            ("1.5 GiB", 1536 << 20),
            ("64K", 64 << 10),
            ("100 b", 1 << 10),
            ("99999999999 GiB", u64::MAX),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "a lot", "1.5.5 GiB", "5 XiB", "MiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
