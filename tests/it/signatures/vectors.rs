//! Single requests with what is to become of them.
//!
//! `EVERHOOK_VECTORS=FILE cargo test --test it -- signatures` reads them from a file of published ones; without it
//! they are made here. The file is an object: `schemes`, by name, in the words of `verify`, and `vectors`, a list of
//! `id`, `scheme`, `secrets`, `request` (`url`, `headers`, and `body` or `body_ref`, a file beside this one with a
//! JSON pointer after `#`), `now` in seconds, and `expect`: `"valid"`, or else it is to be refused.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{UNVERIFIED, known, posted, source};
use crate::harness::ingress::Ingress;
use crate::harness::sender::{Fields, Moment, Scheme};

const NOW: i64 = 1_775_000_000;
const URL: &str = "https://hooks.example/in?source=1&part=2";

#[derive(Debug)]
struct Vector {
    id: String,
    scheme: String,
    secrets: Vec<String>,
    url: String,
    headers: Fields,
    body: Vec<u8>,
    now: i64,
    is_valid: bool,
}

#[derive(Deserialize)]
struct File {
    schemes: BTreeMap<String, Scheme>,
    vectors: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    id: String,
    scheme: String,
    secrets: Vec<String>,
    request: Request,
    now: i64,
    expect: String,
}

#[derive(Deserialize)]
struct Request {
    url: String,
    /// A value is a text, or several texts of a field that occurs so often.
    headers: BTreeMap<String, Value>,
    body: Option<String>,
    body_ref: Option<String>,
}

impl Request {
    fn fields(&self) -> Fields {
        let values = |value: &Value| -> Vec<String> {
            let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            all.iter().map(|one| one.as_str().expect("text").to_owned()).collect()
        };
        let each = |(name, value): (&String, &Value)| {
            values(value).into_iter().map(|value| (name.clone(), value)).collect::<Fields>()
        };
        self.headers.iter().flat_map(each).collect()
    }

    fn body(&self, folder: &Path) -> Vec<u8> {
        let Some(place) = &self.body_ref else {
            return self.body.clone().expect("body or body_ref").into_bytes();
        };
        let (file, pointer) = place.split_once('#').expect("FILE#POINTER");
        let text = std::fs::read(folder.join(file)).expect("the file of a body");
        let document: Value = serde_json::from_slice(&text).expect("JSON");
        let body = document.pointer(pointer).and_then(Value::as_str).expect("a text");
        body.as_bytes().to_vec()
    }
}

fn published(file: &Path) -> (BTreeMap<String, Scheme>, Vec<Vector>) {
    let text = std::fs::read(file).expect("the file that EVERHOOK_VECTORS names");
    let File { schemes, vectors } = serde_json::from_slice(&text).expect("vectors");
    let folder = file.parent().expect("a file is in a folder");
    let vector = |written: Written| Vector {
        headers: written.request.fields(),
        body: written.request.body(folder),
        id: written.id,
        scheme: written.scheme,
        secrets: written.secrets,
        url: written.request.url,
        now: written.now,
        is_valid: written.expect == "valid",
    };
    (schemes, vectors.into_iter().map(vector).collect())
}

/// One request of each kind for every scheme.
fn own() -> (BTreeMap<String, Scheme>, Vec<Vector>) {
    let mut vectors = Vec::new();
    for known in known() {
        let scheme = &known.scheme;
        let (secret, older) = (scheme.secret([1; 32], "secret"), scheme.secret([2; 32], "older"));
        let media = if scheme.takes_a_form() { "x-www-form-urlencoded" } else { "json" };
        let mut add = |what: &str,
                       is_valid: bool,
                       now: i64,
                       change: &dyn Fn(&mut Fields, &mut Vec<u8>)| {
            let secret = if what.contains("rotation") { &older } else { &secret };
            let mut body = body(scheme);
            let mut headers = scheme.sign(secret, &body, Moment { at: NOW, id: "msg_1", url: URL });
            change(&mut headers, &mut body);
            headers.insert(0, ("Content-Type".into(), format!("application/{media}")));
            let secrets = match what {
                "the second secret, in rotation" => {
                    vec![secret_text(&known.scheme), older.text.clone()]
                }
                "the second secret, after rotation" => vec![secret_text(&known.scheme)],
                _ => vec![secret.text.clone()],
            };
            let (id, name, url) =
                (format!("{}: {what}", known.name), known.name.clone(), URL.to_owned());
            vectors.push(Vector { id, scheme: name, secrets, url, headers, body, now, is_valid });
        };
        let nothing = |_: &mut Fields, _: &mut Vec<u8>| ();
        add("as it was sent", true, NOW, &nothing);
        add("the second secret, in rotation", true, NOW, &nothing);
        add("the second secret, after rotation", false, NOW, &nothing);
        add("without its proof", false, NOW, &|fields, _| drop(fields.pop()));
        add("with no proof at all in its place", false, NOW, &|fields, _| {
            *proof(fields) = "nonsense!".into();
        });
        if !scheme.is("token") {
            add("with another body", false, NOW, &|_, body| body[0] ^= 1);
            add("with other white space", false, NOW, &|_, body| body.push(b' '));
        }
        if scheme.list.is_some() {
            let (list, kv) = (scheme.list.clone().unwrap(), scheme.kv.clone().unwrap());
            add("beside a version that nobody knows", true, NOW, &|fields, _| {
                proof(fields).extend([&*list, "v9", &*kv, "00", &*list, "junk"]);
            });
            let pick = scheme.pick.clone().unwrap();
            add("in a version that nobody knows", false, NOW, &|fields, _| {
                let all = proof(fields);
                *all = all.replace(&format!("{pick}{kv}"), &format!("v9{kv}"));
            });
        }
        if let Some(tolerance) = scheme.tolerance {
            for (offset, is_fresh) in [(-1, true), (0, true), (1, false)] {
                let (late, early) = (NOW + tolerance + offset, NOW - tolerance - offset);
                add(&format!("{offset} s beyond its time"), is_fresh, late, &nothing);
                add(&format!("{offset} s before its time"), is_fresh, early, &nothing);
            }
        }
        if let Some(name) = scheme.stamp().strip_prefix("header:") {
            add("without its timestamp", false, NOW, &|fields, _| {
                fields.retain(|(n, _)| n != name);
            });
        }
    }
    let schemes = known().into_iter().map(|known| (known.name, known.scheme)).collect();
    (schemes, vectors)
}

/// A form whose fields need unescaping, or JSON with white space that has to stay.
fn body(scheme: &Scheme) -> Vec<u8> {
    if scheme.takes_a_form() {
        return b"To=%2B49+30&CallSid=CA1&Digits=2&Digits=1&Digits=2".to_vec();
    }
    format!("{{ \"webhookTimestamp\": {NOW}000,\n  \"text\": \"\u{e4} \\u00e4\" }}\n").into_bytes()
}

/// The value of the field with the proof.
fn proof(fields: &mut Fields) -> &mut String {
    &mut fields.last_mut().expect("it is the last").1
}

fn secret_text(scheme: &Scheme) -> String {
    scheme.secret([1; 32], "secret").text
}

/// Whether a source of a preset can read the body: what it cannot read is refused for that, though verified.
fn is_readable(vector: &Vector) -> bool {
    let form = vector.headers.iter().any(|(_, value)| value.contains("x-www-form-urlencoded"));
    form || serde_json::from_slice::<Value>(&vector.body).is_ok()
}

#[tokio::test]
async fn requests_are_accepted_and_refused_as_their_authors_say() {
    let file = std::env::var_os("EVERHOOK_VECTORS");
    let (schemes, mut vectors) = file.map_or_else(own, |file| published(Path::new(&file)));
    // The clock only goes forward.
    vectors.sort_by_key(|vector| vector.now);
    let known = known();
    let mut sources = String::new();
    let mut asked = Vec::new();
    for (number, vector) in vectors.iter().enumerate() {
        let scheme = schemes.get(&vector.scheme).expect("a scheme of the file");
        let secrets: Vec<_> = vector.secrets.iter().map(|secret| &**secret).collect();
        let presets = known.iter().filter(|known| known.name == vector.scheme);
        let presets = presets.flat_map(|known| &known.presets).map(|preset| Some(&**preset));
        for preset in std::iter::once(None).chain(presets) {
            let name = format!("{}-{number}", preset.unwrap_or("custom"));
            sources += &source(&name, preset, scheme, &secrets, &vector.url);
            asked.push((name, preset, vector));
        }
    }
    let ingress = Ingress::start(vectors[0].now, &sources).await;
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for (name, preset, vector) in &asked {
        ingress.move_to(vector.now);
        let path = format!("/in/{name}");
        let mut connection = ingress.connect().await;
        let (status, cause) = posted(&mut connection, &path, &vector.headers, &vector.body).await;
        let expected = match (vector.is_valid, preset) {
            (true, Some(_)) if !is_readable(vector) => (400, "malformed"),
            (true, _) => (200, ""),
            (false, _) => (401, UNVERIFIED),
        };
        if (status, &*cause) != expected {
            wrong.push(format!("{} as {name}: {status} {cause}, not {expected:?}", vector.id));
        }
        accepted += usize::from(status == 200);
        refused += usize::from(status == 401);
    }
    println!(
        "{} requests to {} sources: {accepted} accepted, {refused} refused",
        vectors.len(),
        asked.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(accepted > 0 && refused > 0);
}
