//! Random secrets and bodies for every scheme: accepted as they are signed, and refused with one thing changed.
//!
//! `EVERHOOK_ROUNDS=1000 cargo test --test it -- signatures` is the long form; each round has a secret and a body of
//! its own for each scheme, once for a `custom` source and once for a preset's.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::{Known, UNVERIFIED, known, posted, source};
use crate::harness::ingress::Ingress;
use crate::harness::sender::{Fields, Moment, Scheme, Secret};
use crate::harness::sign::hex;

const NOW: i64 = 1_775_000_000;
/// A printed seed makes the same requests again.
const SEED: u64 = 20_260;
const ROUNDS: u64 = 2;
const URL: &str = "https://hooks.example/in?source=1";

/// Whether a way of spoiling a request applies to a scheme.
type Applies = fn(&Scheme) -> bool;

/// Every way of spoiling a request.
const KINDS: [(&str, Applies); 18] = [
    ("a bit of the body", signs),
    ("the body cut short", signs),
    ("the body made longer", signs),
    ("an empty body", signs),
    ("a bit of the proof", |_| true),
    ("the case of the proof", |scheme| !is_hex(scheme)),
    ("the case of what stands before the proof", |scheme| {
        before_the_proof(scheme).contains(|c: char| c.is_ascii_alphabetic())
    }),
    ("the proof cut short", |_| true),
    ("an empty proof", |_| true),
    ("no proof", |_| true),
    ("the proof twice", |_| true),
    ("another key", |_| true),
    ("another request's id", |scheme| scheme.signed_fields().count() > 0),
    ("an id twice", |scheme| scheme.signed_fields().count() > 0),
    ("another time than was signed", |scheme| signs(scheme) && is_stamped_outside(scheme)),
    ("a stale time", |scheme| scheme.tolerance.is_some()),
    ("an early time", |scheme| scheme.tolerance.is_some()),
    ("a timestamp twice", |scheme| scheme.stamp().starts_with("header:")),
];

fn signs(scheme: &Scheme) -> bool {
    !scheme.is("token")
}

fn is_hex(scheme: &Scheme) -> bool {
    signs(scheme) && scheme.encoding.as_deref() == Some("hex")
}

fn is_stamped_outside(scheme: &Scheme) -> bool {
    !scheme.stamp().is_empty() && !scheme.is_stamped_inside()
}

/// The prefix, or the key that is picked.
fn before_the_proof(scheme: &Scheme) -> &str {
    scheme.pick.as_deref().or(scheme.prefix.as_deref()).unwrap_or_default()
}

fn other_case(text: &str) -> String {
    let other = |c: char| {
        if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    };
    text.chars().map(other).collect()
}

/// A request and what made it.
struct Sent<'a> {
    scheme: &'a Scheme,
    secret: Secret,
    other: Secret,
    id: String,
    body: Vec<u8>,
    proof: String,
}

/// What a request is sent with, when it is not as it should be.
type Spoiled = (&'static str, Fields, Vec<u8>);

impl<'a> Sent<'a> {
    fn new(scheme: &'a Scheme, keys: &(Secret, Secret), id: String, body: Vec<u8>) -> Self {
        let (secret, other) = keys.clone();
        let proof = scheme.proof(&secret, &body, Moment { at: NOW, id: &id, url: URL });
        Self { scheme, secret, other, id, body, proof }
    }

    fn moment(&self) -> Moment<'_> {
        Moment { at: NOW, id: &self.id, url: URL }
    }

    fn fields(&self) -> Fields {
        self.scheme.fields(&self.proof, self.moment())
    }

    /// Each kind of [`KINDS`] that applies.
    fn spoiled(&self, rng: &mut StdRng, body_at: &dyn Fn(i64) -> Vec<u8>) -> Vec<Spoiled> {
        let mut all = Vec::new();
        self.spoil_body(rng, &mut all);
        self.spoil_proof(rng, &mut all);
        self.spoil_fields(body_at, &mut all);
        all
    }

    fn spoil_body(&self, rng: &mut StdRng, all: &mut Vec<Spoiled>) {
        if !signs(self.scheme) {
            return;
        }
        let mut flipped = self.body.clone();
        let at = rng.random_range(0..flipped.len());
        // In a form, %4A and %4a are the same.
        let bits = if self.scheme.takes_a_form() { 0..5 } else { 0..8 };
        flipped[at] ^= 1 << rng.random_range(bits);
        let cut = self.body[..rng.random_range(1..self.body.len())].to_vec();
        let longer = [&self.body[..], b"0"].concat();
        for (kind, body) in [
            ("a bit of the body", flipped),
            ("the body cut short", cut),
            ("the body made longer", longer),
            ("an empty body", Vec::new()),
        ] {
            all.push((kind, self.fields(), body));
        }
    }

    fn spoil_proof(&self, rng: &mut StdRng, all: &mut Vec<Spoiled>) {
        let (scheme, proof) = (self.scheme, &*self.proof);
        let mut add = |kind, proof: &str| {
            all.push((kind, scheme.fields(proof, self.moment()), self.body.clone()));
        };
        // What stands at the very end of base64 may carry nothing.
        let significant = proof.len() - if is_hex(scheme) { 1 } else { 4 };
        let at = rng.random_range(0..significant);
        add("a bit of the proof", &changed(scheme, proof, at, rng));
        if !is_hex(scheme) {
            let letters = proof.char_indices().take(significant);
            let mut letters = letters.filter(|(_, c)| c.is_ascii_alphabetic());
            let (at, _) = letters.next().expect("a letter: secrets begin with one");
            add("the case of the proof", &replaced(proof, at, &other_case(&proof[at..=at])));
        }
        add("the proof cut short", proof.trim_end_matches('=').get(..significant).expect("ASCII"));
        add("an empty proof", "");
        let mut add = |kind, change: &dyn Fn(&mut Fields)| {
            let mut fields = self.fields();
            change(&mut fields);
            all.push((kind, fields, self.body.clone()));
        };
        let before = before_the_proof(scheme);
        if before.contains(|c: char| c.is_ascii_alphabetic()) {
            add("the case of what stands before the proof", &|fields| {
                let value = &mut fields.last_mut().expect("a proof").1;
                let at = value.rfind(&format!("{before}{proof}"));
                let at = at.or_else(|| value.rfind(&format!("{before}{}", scheme.kv.as_deref()?)));
                value.replace_range(at.expect("it is there")..value.len() - proof.len(), &{
                    let kv = scheme.pick.as_ref().and(scheme.kv.as_deref()).unwrap_or_default();
                    other_case(before) + kv
                });
            });
        }
        add("no proof", &|fields| drop(fields.pop()));
        add("the proof twice", &|fields| fields.push(fields.last().expect("a proof").clone()));
        let foreign = scheme.sign(&self.other, &self.body, self.moment());
        all.push(("another key", foreign, self.body.clone()));
    }

    fn spoil_fields(&self, body_at: &dyn Fn(i64) -> Vec<u8>, all: &mut Vec<Spoiled>) {
        let (scheme, moment) = (self.scheme, self.moment());
        let twice = |name: &str| {
            let mut fields = self.fields();
            let field = fields.iter().find(|(n, _)| n == name).expect("it is there").clone();
            fields.insert(0, field);
            fields
        };
        if let Some(name) = scheme.signed_fields().next() {
            let swapped = scheme.fields(&self.proof, Moment { id: "msg_of_another", ..moment });
            all.push(("another request's id", swapped, self.body.clone()));
            all.push(("an id twice", twice(name), self.body.clone()));
        }
        if signs(scheme) && is_stamped_outside(scheme) {
            let swapped = scheme.fields(&self.proof, Moment { at: NOW + 1, ..moment });
            all.push(("another time than was signed", swapped, self.body.clone()));
        }
        if let Some(name) = scheme.stamp().strip_prefix("header:") {
            all.push(("a timestamp twice", twice(name), self.body.clone()));
        }
        if let Some(tolerance) = scheme.tolerance {
            for (kind, at) in
                [("a stale time", NOW - tolerance - 1), ("an early time", NOW + tolerance + 1)]
            {
                let body = body_at(at);
                let fields = scheme.sign(&self.secret, &body, Moment { at, ..moment });
                all.push((kind, fields, body));
            }
        }
    }
}

fn replaced(text: &str, at: usize, with: &str) -> String {
    format!("{}{with}{}", &text[..at], &text[at + 1..])
}

/// Another character of the alphabet in one place, so that it means something else.
fn changed(scheme: &Scheme, proof: &str, at: usize, rng: &mut StdRng) -> String {
    let alphabet =
        if is_hex(scheme) { "0123456789abcdef" } else { "abcdefghijklmnopqrstuvwxyz0123456789" };
    let old = proof[at..=at].to_owned();
    let others: Vec<_> = alphabet.chars().map(String::from).filter(|c| *c != old).collect();
    replaced(proof, at, &others[rng.random_range(0..others.len())])
}

fn word(rng: &mut StdRng, letters: std::ops::RangeInclusive<usize>) -> String {
    let length = rng.random_range(letters);
    (0..length).map(|_| char::from(rng.random_range(b'!'..=b'~'))).collect()
}

/// A body that the source can read: JSON, or a form.
fn readable(scheme: &Scheme, rng: &mut StdRng) -> Box<dyn Fn(i64) -> Vec<u8>> {
    let mut text: String = (0..rng.random_range(1..200)).map(|_| rng.random::<char>()).collect();
    if scheme.takes_a_form() {
        text = text.replace('\0', "");
        let hex: String =
            text.bytes().flat_map(|b| ["%".to_owned(), hex(&[b]).to_uppercase()]).collect();
        let form = format!("b={hex}&a={}+1&a=2&c", rng.next_u32());
        return Box::new(move |_at| form.clone().into_bytes());
    }
    let (text, number) = (serde_json::to_string(&text).expect("text"), rng.next_u64());
    let name = scheme.stamp().strip_prefix("json:/").unwrap_or("sent").to_owned();
    Box::new(move |at| {
        format!("{{ {name:?}: {at}000, \"n\": {number}, \"text\":{text} }}\n").into_bytes()
    })
}

#[tokio::test]
async fn what_is_signed_is_accepted_and_what_differs_in_one_thing_is_refused() {
    let rounds =
        std::env::var("EVERHOOK_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    let nothing_yet = "[source.s]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";
    let ingress = Ingress::start(NOW, nothing_yet).await;
    let known = known();
    let mut tried: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for round in 0..rounds {
        let mut rng = StdRng::seed_from_u64(SEED + round);
        let sent: Vec<_> =
            known.iter().map(|known| (known, keys(&known.scheme, &mut rng))).collect();
        let sources = sent.iter().flat_map(|(known, (secret, _))| sources(known, &secret.text));
        ingress.configure(&sources.collect::<String>());
        for (Known { name, presets, scheme }, keys) in &sent {
            for preset in std::iter::once(None).chain(presets.iter().map(Some)) {
                let reads_any =
                    preset.is_none() && !scheme.takes_a_form() && !scheme.is_stamped_inside();
                let readable = readable(scheme, &mut rng);
                let random: Vec<u8> =
                    (0..rng.random_range(2..1500)).map(|_| rng.random()).collect();
                let body_at = |at| if reads_any { random.clone() } else { readable(at) };
                let id = format!("msg_{}", rng.next_u64());
                let sent = Sent::new(scheme, keys, id, body_at(NOW));
                let path = format!("/in/{name}-{}", preset.map_or("custom", String::as_str));
                let media = if scheme.takes_a_form() { "x-www-form-urlencoded" } else { "json" };
                let mut connection = ingress.connect().await;
                let mut post = async |mut fields: Fields, body: &[u8]| {
                    fields.insert(0, ("content-type".into(), format!("application/{media}")));
                    posted(&mut connection, &path, &fields, body).await
                };
                let what = |kind: &str| format!("{path}, {kind}, seed {}", SEED + round);
                let (status, cause) = post(sent.fields(), &sent.body).await;
                assert_eq!((status, &*cause), (200, ""), "{}", what("as it was signed"));
                if is_hex(scheme) {
                    let upper = scheme.fields(&sent.proof.to_uppercase(), sent.moment());
                    assert_eq!(post(upper, &sent.body).await.0, 200, "{}", what("in capitals"));
                }
                accepted += 1;
                for (kind, fields, body) in sent.spoiled(&mut rng, &body_at) {
                    let (status, cause) = post(fields, &body).await;
                    if (status, &*cause) != (401, UNVERIFIED) {
                        wrong.push(format!("{}: {status} {cause}", what(kind)));
                    }
                    tried.entry(&**name).or_default().insert(kind);
                    refused += 1;
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are not refused: {:#?}",
        wrong.len(),
        wrong.get(..40).unwrap_or(&wrong)
    );
    println!("{rounds} rounds of {} schemes: {accepted} accepted, {refused} refused", known.len());
    for Known { name, scheme, .. } in &known {
        let applies = KINDS.iter().filter(|(_, applies)| applies(scheme));
        let kinds: BTreeSet<_> = applies.map(|(kind, _)| *kind).collect();
        assert_eq!(tried[&**name], kinds, "{name}");
    }
}

/// A secret and another one.
fn keys(scheme: &Scheme, rng: &mut StdRng) -> (Secret, Secret) {
    // The first letter is one that has a case.
    let mut key = || scheme.secret(rng.random(), &format!("k{}", word(rng, 8..=60)));
    (key(), key())
}

fn sources(known: &Known, secret: &str) -> Vec<String> {
    let presets = known.presets.iter().map(|preset| Some(&**preset));
    let source = |preset: Option<&str>| {
        let name = format!("{}-{}", known.name, preset.unwrap_or("custom"));
        source(&name, preset, &known.scheme, &[secret], URL)
    };
    std::iter::once(None).chain(presets).map(source).collect()
}
