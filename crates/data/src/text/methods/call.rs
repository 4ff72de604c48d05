//! A call of a method from a template: its arguments, checked as Python does, and its cost.

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::Result;

/// The name of a method, and its arguments.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) args: &'a [Value],
    named: Kwargs,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &'a str, args: &'a [Value]) -> Result<Self> {
        let (args, named): (&[Value], Kwargs) = from_args(args)?;
        Ok(Self { method, args, named })
    }

    pub(super) fn error(&self, problem: &str) -> Error {
        Error::new(ErrorKind::InvalidOperation, format!("{}(): {problem}", self.method))
    }

    /// Checks that there are at most `most` arguments, and none with other names than these.
    pub(super) fn takes(&self, most: usize, names: &[&str]) -> Result<()> {
        if self.args.len() > most {
            return Err(self.error(&format!("takes at most {most} arguments")));
        }
        match self.named.args().find(|name| !names.contains(name)) {
            Some(name) => Err(self.error(&format!("has no argument `{name}`"))),
            None => Ok(()),
        }
    }

    /// The argument at `at`, or with this name; `None` if it is not given.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<Value> {
        let named = || self.named.peek::<Value>(name).ok().filter(|it| !it.is_undefined());
        self.args.get(at).cloned().or_else(named)
    }

    pub(super) fn text_of(&self, value: &Value) -> Result<String> {
        let wrong = || self.error(&format!("needs a text, not {}", value.kind()));
        value.as_str().map(str::to_owned).ok_or_else(wrong)
    }

    pub(super) fn number_of(&self, value: &Value) -> Result<i64> {
        match value.is_integer() || value.kind() == ValueKind::Bool {
            true => i64::try_from(value.clone()),
            false => Err(self.error(&format!("needs a whole number, not {}", value.kind()))),
        }
    }

    /// A text that must be given.
    pub(super) fn text(&self, at: usize) -> Result<String> {
        let lacks = || self.error(&format!("lacks argument {}", at + 1));
        self.text_of(&self.get(at, "").ok_or_else(lacks)?)
    }

    /// A text that may be `none`.
    pub(super) fn text_or_none(&self, at: usize, name: &str) -> Result<Option<String>> {
        let given = self.get(at, name).filter(|value| !value.is_none());
        given.map(|value| self.text_of(&value)).transpose()
    }

    pub(super) fn number_or(&self, at: usize, name: &str, otherwise: i64) -> Result<i64> {
        self.get(at, name).map_or(Ok(otherwise), |value| self.number_of(&value))
    }

    /// The part of `length` items between the arguments `at` and `at + 1`, which count from the end
    /// where they are negative; `None` if it begins behind its end.
    pub(super) fn range(&self, at: usize, length: usize) -> Result<Option<(usize, usize)>> {
        let place = |at: usize, otherwise: usize| -> Result<usize> {
            let Some(value) = self.get(at, "").filter(|value| !value.is_none()) else {
                return Ok(otherwise);
            };
            let place = self.number_of(&value)?;
            let place = if place < 0 { place.saturating_add(length as i64) } else { place };
            Ok(usize::try_from(place.max(0)).unwrap_or(usize::MAX))
        };
        let (start, end) = (place(at, 0)?, place(at + 1, length)?.min(length));
        Ok((start <= end).then_some((start, end)))
    }
}

/// Charges fuel for `bytes` that are about to be written, as the engine does for texts that it makes.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<()> {
    match bytes / 64 {
        0 => Ok(()),
        fuel => state.consume_fuel(fuel as u64),
    }
}
