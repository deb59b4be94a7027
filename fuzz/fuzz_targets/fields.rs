//! Pointers into arbitrary JSON find what a full parser finds.
#![no_main]

use arbitrary::Arbitrary;
use everhook::model::Headers;
use everhook::rules::payload::{Field, FieldSet, Value};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    pointers: Vec<String>,
    body: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let mut set = FieldSet::default();
    let written = input.pointers.iter().take(8).map(|pointer| format!("/{pointer}"));
    let parsed = written.filter_map(|text| Field::parse(&text).ok().map(|field| (text, field)));
    let added: Vec<_> = parsed.map(|(text, field)| (text, set.add(&field))).collect();
    let headers = Headers::default();
    let Ok(fields) = set.extract(&headers, &input.body) else { return };
    if added.is_empty() {
        return;
    }
    let whole: serde_json::Value = match serde_json::from_slice(&input.body) {
        Ok(whole) => whole,
        // Nesting deeper than a full parser follows, and numbers that it cannot hold.
        Err(_) => return,
    };
    for (pointer, id) in added {
        let expected = whole.pointer(&pointer);
        match fields.get(id) {
            Value::Missing => assert!(expected.is_none(), "{pointer}"),
            Value::Null => assert_eq!(expected, Some(&serde_json::Value::Null), "{pointer}"),
            Value::Text(text) => {
                assert_eq!(expected.and_then(|v| v.as_str()), Some(&*text), "{pointer}");
            }
            Value::Literal(json) | Value::Raw(json) => {
                // A lone surrogate is no text, and a full parser refuses it.
                let found: Option<serde_json::Value> = serde_json::from_str(json).ok();
                assert_eq!(expected, found.as_ref(), "{pointer}");
            }
            Value::Bytes(_) => unreachable!("a pointer never reads bytes"),
        }
    }
});
