//! The order in which the reference's emitter writes the keys of a map: numbers by value, text by natural order.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;

use super::{Node, Text};

type Pair = (Node, Node);

/// Sorts pairs by key. The reference's comparison is no total order (it can go in circles where digits, letters and
/// signs mix), so this is a merge sort of our own: it never fails, and gives one result whatever order came in, because
/// the pairs are first put into an order that is total.
pub fn sort_pairs(mut pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.sort_by_cached_key(|(key, _)| total_key(key));
    merge_sort(pairs)
}

fn total_key(key: &Node) -> (u8, Vec<u8>) {
    let text = match key {
        Node::String(text) => text.as_bytes().to_vec(),
        other => other.plain_text().unwrap_or_default().into_bytes(),
    };
    (kind(key), text)
}

fn merge_sort(mut pairs: Vec<Pair>) -> Vec<Pair> {
    if pairs.len() < 2 {
        return pairs;
    }
    let right = merge_sort(pairs.split_off(pairs.len() / 2));
    let left = merge_sort(pairs);
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let from_right = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => less(&b.0, &a.0),
            (Some(_), None) => false,
            (None, _) => true,
        };
        match if from_right { right.next() } else { left.next() } {
            Some(pair) => out.push(pair),
            None => return out,
        }
    }
}

/// The rank of a key's type among keys that cannot be compared by value.
const fn kind(key: &Node) -> u8 {
    match key {
        Node::Bool(_) => 1,
        Node::Int(_) => 2,
        Node::Uint(_) => 3,
        Node::Float(_) => 4,
        Node::Null => 5,
        Node::Seq(_) | Node::Map(_) => 6,
        Node::String(_) => 7,
        Node::Timestamp(_) => 8,
    }
}

#[allow(clippy::cast_precision_loss)] // the rounding is part of the order
const fn number(key: &Node) -> Option<f64> {
    match key {
        Node::Bool(value) => Some(if *value { 1.0 } else { 0.0 }),
        Node::Int(value) => Some(*value as f64),
        Node::Uint(value) => Some(*value as f64),
        Node::Float(value) => Some(*value),
        _ => None,
    }
}

fn less(a: &Node, b: &Node) -> bool {
    if let (Some(x), Some(y)) = (number(a), number(b)) {
        if x != y {
            return x < y;
        }
        return match (a, b) {
            (Node::Int(x), Node::Int(y)) => x < y,
            (Node::Uint(x), Node::Uint(y)) => x < y,
            _ => kind(a) < kind(b),
        };
    }
    match (a, b) {
        (Node::String(a), Node::String(b)) => natural(a, b) == Ordering::Less,
        _ => kind(a) < kind(b),
    }
}

/// Natural order of two texts: runs of digits count by value, letters come after everything else.
fn natural(a: &Text, b: &Text) -> Ordering {
    let (a, b) = (runes(a), runes(b));
    for (at, (&x, &y)) in a.iter().zip(&b).enumerate() {
        if x == y {
            continue;
        }
        let (x_letter, y_letter) = (is_letter(x), is_letter(y));
        if x_letter && y_letter {
            return x.cmp(&y);
        }
        if x_letter || y_letter {
            let digits = at > 0 && is_digit(a[at - 1]);
            // Inside a number the letter ends it, and the shorter number is less; elsewhere letters come last.
            return if digits == x_letter { Ordering::Less } else { Ordering::Greater };
        }
        // Where one side is a zero, it is a leading zero only if no digit other than zero came right before.
        let inside =
            (x == '0' || y == '0') && a[..at].iter().rev().take_while(|c| is_digit(**c)).any(|digit| *digit != '0');
        let (x_value, x_length) = run(&a[at..], inside);
        let (y_value, y_length) = run(&b[at..], inside);
        return x_value.cmp(&y_value).then(x_length.cmp(&y_length)).then(x.cmp(&y));
    }
    a.len().cmp(&b.len())
}

/// Characters of a text, each byte that is no UTF-8 as one U+FFFD.
fn runes(text: &Text) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.as_bytes().utf8_chunks() {
        out.extend(chunk.valid().chars());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}

/// The value (wrapping at 64 bits, as the reference's does) and the length of the run of digits that `text` begins with.
fn run(text: &[char], inside: bool) -> (i64, usize) {
    let length = text.iter().take_while(|c| is_digit(**c)).count();
    let value = text[..length].iter().fold(i64::from(inside), |value, digit| {
        value.wrapping_mul(10).wrapping_add(i64::from(u32::from(*digit)) - i64::from(u32::from('0')))
    });
    (value, length)
}

fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
    c.is_ascii_alphabetic() || !c.is_ascii() && matches(&LETTER, c)
}

fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
    c.is_ascii_digit() || !c.is_ascii() && matches(&DIGIT, c)
}

fn matches(pattern: &LazyLock<Option<Regex>>, c: char) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(c.encode_utf8(&mut [0; 4])))
}
