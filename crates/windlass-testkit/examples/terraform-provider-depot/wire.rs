//! The two encodings of the provider protocol, as far as it is used here: protocol buffers for messages
//! (<https://protobuf.dev/programming-guides/encoding/>) and MessagePack for values
//! (<https://github.com/msgpack/msgpack/blob/master/spec.md>).

use serde_json::Value;
use std::collections::BTreeMap;

/// Fields of a message by number, in the order they came; numbers as eight bytes, little endian.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => varint(&mut bytes)?.to_le_bytes().to_vec(),
            1 => take(&mut bytes, 8)?.to_vec(),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                take(&mut bytes, length)?.to_vec()
            }
            5 => take(&mut bytes, 4)?.to_vec(),
            _ => return None,
        };
        found.push((tag >> 3, content));
    }
    Some(found)
}

/// Content of a field; empty when it is not there.
pub fn field(message: &[u8], number: u64) -> Vec<u8> {
    let found = fields(message).unwrap_or_default().into_iter().find(|(n, _)| *n == number);
    found.map(|(_, content)| content).unwrap_or_default()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

/// A message that is written.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn bytes(mut self, number: u64, content: impl AsRef<[u8]>) -> Self {
        self.varint(number << 3 | 2);
        self.varint(content.as_ref().len() as u64);
        self.0.extend_from_slice(content.as_ref());
        self
    }

    pub fn number(mut self, number: u64, value: u64) -> Self {
        self.varint(number << 3);
        self.varint(value);
        self
    }

    pub fn message(self, number: u64, content: Message) -> Self {
        self.bytes(number, content.0)
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A resource's value: attributes by name; `None` for a resource that is not there.
pub type Object = Option<BTreeMap<String, Attribute>>;

#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    Known(Value),
    Unknown,
}

/// A `DynamicValue` message: MessagePack in field 1, or JSON in field 2.
pub fn object(dynamic: &[u8]) -> Option<Object> {
    let (packed, json) = (field(dynamic, 1), field(dynamic, 2));
    if packed.is_empty() {
        return Some(from_json(&serde_json::from_slice(&json).ok()?));
    }
    let mut bytes = packed.as_slice();
    match first(&mut bytes)? {
        Head::Scalar(Attribute::Known(Value::Null)) => Some(None),
        Head::Map(length) => {
            let mut attributes = BTreeMap::new();
            for _ in 0..length {
                let name = value(&mut bytes)?;
                attributes.insert(name.as_str()?.to_owned(), attribute(&mut bytes)?);
            }
            Some(Some(attributes))
        }
        _ => None,
    }
}

/// As a state has it; what is not an object is no resource.
pub fn from_json(json: &Value) -> Object {
    let attributes = json.as_object()?;
    Some(attributes.iter().map(|(name, value)| (name.clone(), Attribute::Known(value.clone()))).collect())
}

enum Head {
    Scalar(Attribute),
    Array(usize),
    Map(usize),
}

fn first(bytes: &mut &[u8]) -> Option<Head> {
    let mut number = |length: usize| {
        let taken = take(bytes, length)?;
        Some(taken.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let kind = u8::try_from(number(1)?).ok()?;
    let known = |value: Value| Some(Head::Scalar(Attribute::Known(value)));
    let length = match kind {
        0x00..=0x7f => return known(kind.into()),
        0xe0..=0xff => return known((kind as i8).into()),
        0xc0 => return known(Value::Null),
        0xc2 | 0xc3 => return known((kind == 0xc3).into()),
        0xcc..=0xcf => return known(number(1 << (kind - 0xcc))?.into()),
        0xd0 => return known((number(1)? as u8 as i8).into()),
        0xd1 => return known((number(2)? as u16 as i16).into()),
        0xd2 => return known((number(4)? as u32 as i32).into()),
        0xd3 => return known((number(8)? as i64).into()),
        0xca => return known(f64::from(f32::from_bits(number(4)? as u32)).into()),
        0xcb => return known(f64::from_bits(number(8)?).into()),
        0x80..=0x8f => return Some(Head::Map(usize::from(kind & 15))),
        0x90..=0x9f => return Some(Head::Array(usize::from(kind & 15))),
        0xdc | 0xdd => return Some(Head::Array(number(2 << (kind - 0xdc))? as usize)),
        0xde | 0xdf => return Some(Head::Map(number(2 << (kind - 0xde))? as usize)),
        // Extensions: here always a value that is not known yet.
        0xd4..=0xd8 => {
            take(bytes, 1 + (1 << (kind - 0xd4)))?;
            return Some(Head::Scalar(Attribute::Unknown));
        }
        0xc7..=0xc9 => {
            let length = number(1 << (kind - 0xc7))? as usize;
            take(bytes, 1 + length)?;
            return Some(Head::Scalar(Attribute::Unknown));
        }
        0xa0..=0xbf => u64::from(kind & 31),
        0xd9..=0xdb => number(1 << (kind - 0xd9))?,
        0xc4..=0xc6 => number(1 << (kind - 0xc4))?,
        _ => return None,
    };
    let text = take(bytes, usize::try_from(length).ok()?)?;
    known(String::from_utf8(text.to_vec()).ok()?.into())
}

/// An attribute; one with something unknown inside counts as unknown.
fn attribute(bytes: &mut &[u8]) -> Option<Attribute> {
    Some(match first(bytes)? {
        Head::Scalar(scalar) => scalar,
        Head::Array(length) => {
            let items: Option<Vec<Attribute>> = (0..length).map(|_| attribute(bytes)).collect();
            let known: Option<Vec<Value>> = items?.into_iter().map(known).collect();
            known.map_or(Attribute::Unknown, |items| Attribute::Known(items.into()))
        }
        Head::Map(length) => {
            let mut items = Some(serde_json::Map::new());
            for _ in 0..length {
                let name = value(bytes)?;
                match (known(attribute(bytes)?), &mut items) {
                    (Some(value), Some(items)) => {
                        items.insert(name.as_str()?.to_owned(), value);
                    }
                    _ => items = None,
                }
            }
            items.map_or(Attribute::Unknown, |items| Attribute::Known(items.into()))
        }
    })
}

fn known(attribute: Attribute) -> Option<Value> {
    match attribute {
        Attribute::Known(value) => Some(value),
        Attribute::Unknown => None,
    }
}

fn value(bytes: &mut &[u8]) -> Option<Value> {
    known(attribute(bytes)?)
}

/// The `DynamicValue` of an object.
pub fn dynamic(object: &Object) -> Message {
    let mut out = Vec::new();
    match object {
        None => out.push(0xc0),
        Some(attributes) => {
            head(&mut out, 0xdf, attributes.len());
            for (name, attribute) in attributes {
                pack(&mut out, &Value::from(name.as_str()));
                match attribute {
                    Attribute::Known(value) => pack(&mut out, value),
                    Attribute::Unknown => out.extend([0xd4, 0, 0]),
                }
            }
        }
    }
    Message::default().bytes(1, out)
}

fn head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend((length as u32).to_be_bytes());
}

fn pack(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(bool) => out.push(if *bool { 0xc3 } else { 0xc2 }),
        Value::Number(number) => match number.as_i64() {
            Some(number) => {
                out.push(0xd3);
                out.extend(number.to_be_bytes());
            }
            None => {
                out.push(0xcb);
                out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(text) => {
            head(out, 0xdb, text.len());
            out.extend(text.as_bytes());
        }
        Value::Array(items) => {
            head(out, 0xdd, items.len());
            items.iter().for_each(|item| pack(out, item));
        }
        Value::Object(items) => {
            head(out, 0xdf, items.len());
            for (name, item) in items {
                pack(out, &Value::from(name.as_str()));
                pack(out, item);
            }
        }
    }
}
