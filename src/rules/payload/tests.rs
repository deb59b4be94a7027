//! Values found in one pass, and every way in which a body can be odd.

use proptest::prelude::*;

use super::*;

fn set(pointers: &[&str]) -> (FieldSet, Vec<FieldId>) {
    let mut set = FieldSet::default();
    let ids = pointers.iter().map(|p| set.add(&Field::parse(p).unwrap())).collect();
    (set, ids)
}

fn read<'a>(set: &'a FieldSet, headers: &'a Headers, body: &'a str) -> Fields<'a> {
    set.extract(headers, body.as_bytes()).unwrap()
}

#[test]
fn fields_are_read_as_they_are_written() {
    for good in ["/", "/a", "/a~1b/0/~0", "header:x-a", "body"] {
        assert_eq!(Field::parse(good).unwrap().to_string(), good);
    }
    assert_eq!(Field::parse("header:X-Event").unwrap(), Field::Header("x-event".into()));
    let deep = "/a".repeat(MAX_POINTER_STEPS + 1);
    for bad in ["", "a", "header:", "header:a b", "/~", "/a~2", "Body", &deep] {
        assert!(Field::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn one_pass_finds_every_value_as_text() {
    let pointers = ["/s", "/esc", "/n", "/b", "/null", "/arr", "/arr/1", "/o/p/q", "/none", "/~1k"];
    let (set, ids) = set(&pointers);
    let headers = Headers::default();
    let body = r#"{"skip":[{"s":"no"}],"s":"x","esc":"a\u00e9\n","n":1.50,"b":true,"null":null,
        "arr":["u", "v"],"o":{"z":{},"p":{"q":"deep"}},"/k":-0}"#;
    let fields = read(&set, &headers, body);
    let expected = [
        Value::Text("x".into()),
        Value::Text("aé\n".into()),
        Value::Literal("1.50"),
        Value::Literal("true"),
        Value::Null,
        Value::Raw(r#"["u", "v"]"#),
        Value::Text("v".into()),
        Value::Text("deep".into()),
        Value::Missing,
        Value::Literal("-0"),
    ];
    for (i, expected) in expected.iter().enumerate() {
        assert_eq!(&fields.get(ids[i]), expected, "{}", pointers[i]);
    }
    assert!(matches!(fields.get(ids[0]), Value::Text(Cow::Borrowed(_))));
}

#[test]
fn the_same_field_twice_is_one_field() {
    let (set, ids) = set(&["/a", "header:x", "/a"]);
    assert_eq!(ids[0], ids[2]);
    let headers = Headers::default();
    assert_eq!(read(&set, &headers, r#"{"a":"1"}"#).get(ids[2]).as_text(), Some("1"));
}

#[test]
fn a_body_nobody_looks_into_may_be_anything() {
    let (set, ids) = set(&["header:x", "body"]);
    let headers = Headers::from_pairs([("x", &b"1"[..])]);
    let fields = set.extract(&headers, b"\xff not json").unwrap();
    assert_eq!(fields.get(ids[0]).as_text(), Some("1"));
    assert_eq!(fields.get(ids[1]), Value::Bytes(b"\xff not json"));
}

#[test]
fn what_is_not_unambiguous_json_is_refused() {
    let (set, _) = set(&["/a/b", "/a"]);
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"{}x",
        b"{'a':1}",
        b"\xff",
        b"{\"a\":1,\"a\":2}",
        b"{\"a\":{\"b\":1,\"\\u0062\":2}}",
        b"{\"z\":\"\xff\"}",
    ];
    for body in bodies {
        assert_eq!(set.extract(&Headers::default(), body).unwrap_err(), Unreadable, "{body:?}");
    }
    // A repeat that nobody looks at changes no answer.
    assert!(set.extract(&Headers::default(), br#"{"z":1,"z":2,"y":{"a":1,"a":2}}"#).is_ok());
}

#[test]
fn a_scalar_on_the_way_means_missing() {
    let (set, ids) = set(&["/a/b"]);
    for body in
        [r#"{"a":1}"#, r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{"a":[1]}"#, "[]", "3", "\"\\n\""]
    {
        assert_eq!(read(&set, &Headers::default(), body).get(ids[0]), Value::Missing, "{body}");
    }
}

#[test]
fn array_steps_are_exact_indexes() {
    let (zeros, zero) = set(&["/00"]);
    let (set, ids) = set(&["/0/1", "/00"]);
    let fields_of = |body| read_texts(&set, &ids, body);
    assert_eq!(fields_of(r#"[["a","b"],"c"]"#), [Some("b".into()), None]);
    assert_eq!(read_texts(&zeros, &zero, r#"["a"]"#), [None], "an index has no leading zero");
    assert_eq!(fields_of(r#"{"0":{"1":"x"},"00":"y"}"#), [Some("x".into()), Some("y".into())]);
}

fn read_texts(set: &FieldSet, ids: &[FieldId], body: &str) -> Vec<Option<String>> {
    let headers = Headers::default();
    let fields = read(set, &headers, body);
    ids.iter().map(|id| fields.get(*id).as_text().map(str::to_owned)).collect()
}

#[test]
fn a_string_that_is_not_unicode_keeps_its_json_text() {
    let (set, ids) = set(&["/a"]);
    let headers = Headers::default();
    let fields = read(&set, &headers, r#"{"a":"\ud800"}"#);
    assert_eq!(fields.get(ids[0]), Value::Raw(r#""\ud800""#));
    assert_eq!(fields.get(ids[0]).as_text(), None);
}

#[test]
fn deep_nesting_is_skipped_without_recursion() {
    let (set, ids) = set(&["/a", "/z"]);
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let body = format!(r#"{{"y":{deep},"a":{deep},"z":"end"}}"#);
    let headers = Headers::default();
    let fields = read(&set, &headers, &body);
    assert_eq!(fields.get(ids[1]).as_text(), Some("end"));
    assert!(!fields.get(ids[0]).any_text(|_| true));
}

#[test]
fn a_repeated_header_reads_as_missing() {
    let (set, ids) = set(&["header:x"]);
    let headers = Headers::from_pairs([("x", &b"1"[..]), ("x", b"1")]);
    assert_eq!(set.extract(&headers, b"").unwrap().get(ids[0]), Value::Missing);
}

#[test]
fn an_array_has_a_text_for_each_scalar() {
    let array = Value::Raw(r#"["a", 1.0, true, null, ["b"], {"c":"d"}]"#);
    for (text, found) in [("a", true), ("1.0", true), ("true", true), ("b", false), ("d", false)] {
        assert_eq!(array.any_text(|t| t == text), found, "{text}");
    }
    assert!(!Value::Raw(r#"{"a":"a"}"#).any_text(|_| true));
}

proptest! {
    #[test]
    fn agrees_with_the_whole_document(keys in prop::collection::vec("[a-c]", 1..4), value in "\\PC*") {
        let pointer = format!("/{}", keys.join("/"));
        let mut document = serde_json::Value::String(value.clone());
        for key in keys.iter().rev() {
            document = serde_json::json!({ "other": [1], (key.clone()): document });
        }
        let (set, ids) = set(&[&pointer]);
        let headers = Headers::default();
        let body = document.to_string();
        let found = read(&set, &headers, &body).get(ids[0]);
        prop_assert_eq!(found.as_text(), Some(&*value));
    }

    #[test]
    fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let (set, _) = set(&["/a/0", "/a", "/"]);
        drop(set.extract(&Headers::default(), &body));
    }
}
