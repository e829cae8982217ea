//! Mutations that keep JSON JSON: changing bytes alone nearly always ends at the parser, and what lies behind it is the point.

use fastrand::Rng;
use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

use crate::input::SEPARATOR;

/// Changes the first `length` bytes, to at most `most`; returns how many there are then.
pub fn mutate(bytes: &mut [u8], length: usize, most: usize, seed: u32) -> usize {
    let mut random = Rng::with_seed(seed.into());
    // Now and then the bytes themselves, by the fuzzer's own means: forms that cannot be read are stored forms as well.
    if random.u8(..4) == 0 {
        return fuzzer_mutate(bytes, length, most);
    }
    match graft(&bytes[..length], &mut random).filter(|changed| changed.len() <= most) {
        Some(changed) => {
            bytes[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => fuzzer_mutate(bytes, length, most),
    }
}

/// Puts a part of one piece, or something from the list, in the place of a part of another. `None`: a piece is not JSON.
fn graft(bytes: &[u8], random: &mut Rng) -> Option<Vec<u8>> {
    let mut pieces: Vec<_> = bytes.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec).collect();
    let from = pieces[random.usize(..pieces.len())].clone();
    let to = random.usize(..pieces.len());
    let (_, donor) = parse(&from)?;
    let (head, mut value) = parse(&pieces[to])?;
    let count = count(&donor);
    let part = if random.bool() {
        nth(&mut donor.clone(), &mut random.usize(..count))?.clone()
    } else {
        odd(random)
    };
    let mut at = random.usize(..self::count(&value));
    *nth(&mut value, &mut at)? = part;
    pieces[to] = [head, value.to_string().as_bytes()].concat();
    Some(pieces.join(&SEPARATOR))
}

/// The line that names an item, none for the context, and the JSON.
fn parse(piece: &[u8]) -> Option<(&[u8], Value)> {
    let at = piece.iter().position(|byte| *byte == b'\n').map_or(0, |line| line + 1);
    let (head, form) = piece.split_at(at);
    Some((head, serde_json::from_slice(form).ok()?))
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The part of this number, the whole being 0.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(elements) => elements.iter_mut().find_map(|element| nth(element, left)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Something that a parser or an operator may not expect.
fn odd(random: &mut Rng) -> Value {
    const OPERATORS: [&str; 25] = [
        "equals",
        "one_of",
        "contains",
        "starts_with",
        "ends_with",
        "matches",
        "number_equal",
        "number_not_equal",
        "number_less",
        "number_less_or_equal",
        "number_greater",
        "number_greater_or_equal",
        "version_equal",
        "version_not_equal",
        "version_less",
        "version_less_or_equal",
        "version_greater",
        "version_greater_or_equal",
        "version_tilde",
        "version_caret",
        "before",
        "after",
        "ip_in_range",
        "exists",
        "in_segment",
    ];
    const TEXTS: [&str; 14] = [
        "",
        "f",
        "s",
        "x",
        "a.b",
        "targeting_key",
        "1.2.3-rc.1",
        "0.0.0",
        "9999-12-31T23:59:60.999999999-23:59",
        "0000-01-01T00:00:00+23:59",
        "::ffff:0:0/95",
        "255.255.255.255/0",
        r"(?i)\pL{100}|(a*)*$",
        "🚩\u{0}",
    ];
    const NUMBERS: [f64; 8] = [
        0.0,
        -0.0,
        5e-324,
        1e308,
        -1.0,
        4_294_967_296.0,
        9_007_199_254_740_993.0,
        0.1,
    ];
    match random.u8(..8) {
        0 | 1 => json!(OPERATORS[random.usize(..OPERATORS.len())]),
        2 | 3 => json!(TEXTS[random.usize(..TEXTS.len())]),
        4 => json!(NUMBERS[random.usize(..NUMBERS.len())]),
        5 => json!(random.u32(..)),
        6 => [json!(null), json!(true), json!([]), json!({})][random.usize(..4)].clone(),
        _ => json!({ "attribute": "", "operator": "in_segment", "values": ["s"], "negated": random.bool() }),
    }
}
