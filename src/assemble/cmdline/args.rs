//! An ordered list of kernel arguments, as Linux reads them: `key` or `key=value`, divided by white space.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// Kernel arguments: each key once, at the place where it first appeared, with its values in order.
///
/// Schematics may hold very many, so no step looks through the whole list for one key.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Places in order; one without values is written as nothing.
    places: Vec<(String, Vec<String>)>,
    /// Where each key stands in `places`; a deleted key has left its place.
    index: HashMap<String, usize>,
}

impl Args {
    /// Reads words divided by white space. Quotes have no meaning here; what stands before the first `=` is the key.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Self {
        let mut args = Self::default();
        for word in texts.iter().flat_map(|text| text.as_ref().split_whitespace()) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            args.values(key).push(value.to_owned());
        }
        args
    }

    /// The values of a key, which joins the end of the list if it is new.
    fn values(&mut self, key: &str) -> &mut Vec<String> {
        let at = self.index.get(key).copied().unwrap_or_else(|| {
            self.index.insert(key.to_owned(), self.places.len());
            self.places.push((key.to_owned(), Vec::new()));
            self.places.len() - 1
        });
        &mut self.places[at].1
    }

    /// Adds the values to those that are there.
    pub fn append(&mut self, other: Self) {
        for (key, values) in other.places {
            self.values(&key).extend(values);
        }
    }

    /// Replaces the values of every key that `other` has; their places stay.
    pub fn set(&mut self, other: Self) {
        for (key, values) in other.places {
            *self.values(&key) = values;
        }
    }

    /// Applies arguments that a schematic asks for.
    ///
    /// All of one key are taken together, at the place of the first. `console` and `talos.platform` replace, others
    /// append. `-key` deletes the key and its place; `-key=value` deletes one value and keeps the place, so that a later
    /// value of that key stands there. Should both forms be asked for one key, the first decides.
    pub fn customize(&mut self, asked: Self) {
        for (key, values) in asked.places {
            match key.strip_prefix('-').filter(|name| !name.is_empty()) {
                Some(name) if values.first().is_some_and(String::is_empty) => self.delete(name),
                Some(name) => {
                    if let Some(at) = self.index.get(name) {
                        let values: HashSet<String> = values.into_iter().collect();
                        self.places[*at].1.retain(|value| !values.contains(value));
                    }
                }
                None if matches!(key.as_str(), "console" | "talos.platform") => *self.values(&key) = values,
                None => self.values(&key).extend(values),
            }
        }
    }

    fn delete(&mut self, key: &str) {
        if let Some(at) = self.index.remove(key) {
            self.places[at].1.clear();
        }
    }
}

impl fmt::Display for Args {
    /// The arguments on one line. An empty key with an empty value is written as nothing, between its two spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (key, values) in &self.places {
            for value in values {
                let equals = if value.is_empty() { "" } else { "=" };
                write!(f, "{space}{key}{equals}{value}")?;
                space = " ";
            }
        }
        Ok(())
    }
}
