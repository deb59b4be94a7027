//! Reads what a collector is sent: just enough of the protobuf wire format to find spans and their attributes.

use std::collections::BTreeMap;

/// A value of one field.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A message: its fields in order, by number.
#[derive(Clone, Debug, Default)]
pub struct Message<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Message<'a> {
    pub fn parse(mut rest: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut rest)),
                1 => Value::Number(u64::from_le_bytes(take(&mut rest, 8).try_into().expect("8"))),
                2 => {
                    let length = usize::try_from(varint(&mut rest)).expect("a length");
                    Value::Bytes(take(&mut rest, length))
                }
                5 => {
                    let four = take(&mut rest, 4).try_into().expect("4");
                    Value::Number(u32::from_le_bytes(four).into())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    /// Every value of a field that has bytes.
    pub fn all(&self, number: u64) -> impl Iterator<Item = &'a [u8]> {
        let here = self.0.iter().filter(move |(field, _)| *field == number);
        here.map(move |(_, value)| match value {
            Value::Bytes(bytes) => *bytes,
            Value::Number(value) => panic!("field {number} is the number {value}"),
        })
    }

    /// The messages of a field.
    pub fn messages(&self, number: u64) -> impl Iterator<Item = Message<'a>> {
        self.all(number).map(Message::parse)
    }

    pub fn text(&self, number: u64) -> String {
        String::from_utf8(self.all(number).next().unwrap_or_default().to_vec()).expect("UTF-8")
    }

    pub fn hex(&self, number: u64) -> String {
        hex::encode(self.all(number).next().unwrap_or_default())
    }

    pub fn number(&self, number: u64) -> u64 {
        let field = self.0.iter().find(|(field, _)| *field == number);
        field.map_or(0, |(_, value)| match value {
            Value::Number(value) => *value,
            Value::Bytes(_) => panic!("field {number} has bytes"),
        })
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(take(rest, 1)[0]);
        value |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number of more than ten bytes");
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}

/// A span as the collector knows it.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty when it has none.
    pub parent: String,
    pub kind: u64,
    pub began: u64,
    pub ended: u64,
    /// 2 is an error.
    pub status: u64,
    pub attributes: BTreeMap<String, String>,
}

/// Attributes, numbers as text.
fn attributes<'a>(pairs: impl Iterator<Item = Message<'a>>) -> BTreeMap<String, String> {
    let value = |of: Message<'_>| match of.text(1) {
        text if text.is_empty() => of.number(3).to_string(),
        text => text,
    };
    pairs
        .map(|pair| (pair.text(1), pair.messages(2).next().map(value).unwrap_or_default()))
        .collect()
}

/// What one request told of: the resource, and its spans.
pub fn export(body: &[u8]) -> (BTreeMap<String, String>, Vec<Span>) {
    let (mut resource, mut spans) = (BTreeMap::new(), Vec::new());
    for of_resource in Message::parse(body).messages(1) {
        resource =
            of_resource.messages(1).map(|it| attributes(it.messages(1))).next().unwrap_or_default();
        for span in of_resource.messages(2).flat_map(|scope| scope.messages(2).collect::<Vec<_>>())
        {
            spans.push(Span {
                trace: span.hex(1),
                id: span.hex(2),
                parent: span.hex(4),
                name: span.text(5),
                kind: span.number(6),
                began: span.number(7),
                ended: span.number(8),
                attributes: attributes(span.messages(9)),
                status: span.messages(15).next().map_or(0, |status| status.number(3)),
            });
        }
    }
    (resource, spans)
}
