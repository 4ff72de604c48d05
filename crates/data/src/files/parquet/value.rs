//! Converts rows of the parquet crate to JSON.

use parquet::record::{Field, Row as Record};
use serde_json::{Number, Value};

use super::super::Row;

/// A record as an object, its columns in order.
pub(super) fn row(record: Record) -> Row {
    record.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// Lists become arrays; groups, and maps with text keys, become objects.
///
/// Bytes become text if they are valid text, because some writers do not mark text columns, and null
/// otherwise. Numbers that JSON cannot represent become null too.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => truth.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => number.into(),
        Field::Long(number)
        | Field::TimeMicros(number)
        | Field::TimestampMillis(number)
        | Field::TimestampMicros(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.into()),
        Field::Float(number) => float(number.into()),
        Field::Double(number) => float(number),
        Field::Decimal(_) => Value::String(field.to_string()),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => text.into(),
            Err(_) => Value::Null,
        },
        Field::Group(record) => Value::Object(row(record)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => map_value(map.entries()),
    }
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn map_value(entries: &[(Field, Field)]) -> Value {
    let named = entries.iter().map(|(key, held)| match key {
        Field::Str(key) => Some((key.clone(), value(held.clone()))),
        _ => None,
    });
    match named.collect::<Option<Row>>() {
        Some(object) => Value::Object(object),
        None => entries
            .iter()
            .map(|(key, held)| {
                let pair = [("key", key), ("value", held)];
                pair.map(|(name, field)| (name.to_owned(), value(field.clone())))
                    .into_iter()
                    .collect::<Row>()
            })
            .map(Value::Object)
            .collect(),
    }
}
