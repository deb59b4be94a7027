//! Every scheme of every preset: what is signed is accepted, and with any one thing changed it is refused.
//!
//! `PROPTEST_CASES=1000 cargo test --lib proof_tests` is the long form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::presets;
use crate::model::{Headers, Secret};
use crate::rules::verify::{Encoding, Kind, PrivateKey, Scheme, Verifier};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);
const URL: &str = "https://hooks.example/in?x=1";

type Pairs = Vec<(String, String)>;

/// What varies from case to case.
#[derive(Clone, Debug)]
struct Case {
    seed: [u8; 32],
    text: String,
    body: Vec<u8>,
    at: prop::sample::Index,
    bit: u8,
}

fn case() -> impl Strategy<Value = Case> {
    let body = prop::collection::vec(any::<u8>(), 1..200);
    let parts = (any::<[u8; 32]>(), "[!-~]{1,40}", body, any::<prop::sample::Index>(), 0_u8..8);
    parts.prop_map(|(seed, text, body, at, bit)| Case { seed, text, body, at, bit })
}

/// One scheme with the keys of one case.
struct Trial {
    scheme: Scheme,
    verifier: Verifier,
    private: Option<PrivateKey>,
    body: Vec<u8>,
}

impl Trial {
    fn new(scheme: &Scheme, case: &Case) -> Self {
        let mut key = case.seed.to_vec();
        let private = (scheme.kind == Kind::Ed25519).then(|| {
            let pair = Ed25519KeyPair::from_seed_unchecked(&case.seed).unwrap();
            key = pair.public_key().as_ref().to_vec();
            PrivateKey::parse(&hex::encode(case.seed)).unwrap()
        });
        let text = match scheme.key_encoding {
            Encoding::Utf8 => case.text.clone(),
            Encoding::Hex => hex::encode(&key),
            Encoding::Base64 | Encoding::Base64Url => STANDARD.encode(&key),
        };
        let secret = Secret::new(format!("{}{text}", scheme.key_prefix));
        let verifier = Verifier::new(scheme, &[secret], Some(URL)).unwrap();
        let body = if scheme.signed.contains("{form_sorted}") {
            format!("a={}", hex::encode(&case.body)).into_bytes()
        } else if scheme.timestamp.as_ref().is_some_and(|at| at.starts_with("json:")) {
            let (sent, data) = (NOW.as_millis(), hex::encode(&case.body));
            format!(r#"{{"webhookTimestamp":{sent},"data":"{data}"}}"#).into_bytes()
        } else {
            case.body.clone()
        };
        Self { scheme: scheme.clone(), verifier, private, body }
    }

    fn signed(&self) -> Pairs {
        let (private, none) = (self.private.as_ref(), Headers::default());
        self.verifier.imitate_with(private, &none, &self.body, NOW).unwrap()
    }

    fn proves(&self, pairs: &Pairs, body: &[u8]) -> bool {
        self.verifier.verifies(&packed(pairs), body, NOW)
    }

    /// Every way of changing one thing, with what it is called.
    fn mutations(&self, case: &Case) -> Vec<(String, Pairs, Vec<u8>)> {
        let signed = self.signed();
        let mut all = Vec::new();
        for index in 0..signed.len() {
            let mut changed = |what: &str, change: &dyn Fn(&mut Pairs)| {
                let mut pairs = signed.clone();
                change(&mut pairs);
                all.push((format!("{what} {}", signed[index].0), pairs, self.body.clone()));
            };
            changed("missing", &|pairs| drop(pairs.remove(index)));
            changed("empty", &|pairs| pairs[index].1.clear());
            changed("twice", &|pairs| pairs.push(signed[index].clone()));
            changed("truncated", &|pairs| assert!(pairs[index].1.pop().is_some()));
            changed("swapped", &|pairs| pairs[index].1 = format!("x{}", signed[index].1));
            if !self.scheme.prefix.is_empty() && index == signed.len() - 1 {
                changed("other case of the prefix of", &|pairs| {
                    let (prefix, rest) = pairs[index].1.split_at(self.scheme.prefix.len());
                    let other: String = prefix.chars().map(other_case).collect();
                    pairs[index].1 = format!("{other}{rest}");
                });
            }
        }
        if self.scheme.kind != Kind::Token {
            let mut flipped = self.body.clone();
            flipped[case.at.index(self.body.len())] ^= 1 << case.bit;
            let shorter = self.body[..case.at.index(self.body.len())].to_vec();
            let longer = [&self.body[..], b"0"].concat();
            let bodies = [
                ("bit", flipped),
                ("truncated", shorter),
                ("longer", longer),
                ("empty", Vec::new()),
            ];
            for (what, body) in bodies {
                all.push((format!("{what} body"), signed.clone(), body));
            }
        }
        all
    }
}

fn other_case(c: char) -> char {
    if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
}

fn packed(pairs: &Pairs) -> Headers {
    Headers::from_pairs(pairs.iter().map(|(name, value)| (&**name, value.as_bytes())))
}

fn schemes() -> impl Iterator<Item = (&'static str, Scheme)> {
    let of = |preset: &&'static super::Preset| {
        preset.schemes().into_iter().map(|scheme| (preset.name, scheme))
    };
    presets().iter().flat_map(of)
}

#[test]
fn there_is_something_to_try() {
    assert!(schemes().count() >= 33, "{}", schemes().count());
}

proptest! {
    #[test]
    fn what_is_signed_is_accepted_and_nothing_that_differs(case in case()) {
        for (name, scheme) in schemes() {
            let trial = Trial::new(&scheme, &case);
            let signed = trial.signed();
            prop_assert!(trial.proves(&signed, &trial.body), "{name}");
            for (what, pairs, body) in trial.mutations(&case) {
                // The padding of base64 carries nothing, and neither does a body that was empty before.
                let same = pairs == signed && body == trial.body;
                let padding = signed.last().is_some_and(|last| last.1.ends_with('='))
                    && what.starts_with("truncated") && pairs.last() != signed.last();
                prop_assert!(same || padding || !trial.proves(&pairs, &body), "{name}: {what}");
            }
        }
    }

    #[test]
    fn a_changed_bit_of_the_proof_is_refused_or_means_the_same(case in case()) {
        for (name, scheme) in schemes() {
            let trial = Trial::new(&scheme, &case);
            let mut signed = trial.signed();
            let before = trial.verifier.prove(&packed(&signed), &trial.body, NOW);
            let proof = signed.last_mut().unwrap();
            let mut bytes = std::mem::take(&mut proof.1).into_bytes();
            let at = case.at.index(bytes.len());
            bytes[at] ^= 1 << (case.bit % 7);
            proof.1 = String::from_utf8(bytes).unwrap();
            let after = trial.verifier.prove(&packed(&signed), &trial.body, NOW);
            prop_assert!(after.is_none() || after == before, "{name}: {}", proof_of(&signed));
        }
    }

    #[test]
    fn another_key_does_not_verify(case in case(), other in any::<[u8; 32]>(), text in "[!-~]{41,50}") {
        prop_assume!(other != case.seed);
        for (name, scheme) in schemes() {
            let (one, foreign) = (Trial::new(&scheme, &case), Case { seed: other, text: text.clone(), ..case.clone() });
            let two = Trial::new(&scheme, &foreign);
            prop_assert!(!two.proves(&one.signed(), &one.body), "{name}");
        }
    }

    #[test]
    fn a_stale_or_early_request_is_refused_where_the_scheme_is_timed(case in case(), late in 1_i64..100_000) {
        for (name, scheme) in schemes() {
            let trial = Trial::new(&scheme, &case);
            let request = packed(&trial.signed());
            let beyond = |tolerance: std::time::Duration| {
                i64::try_from(tolerance.as_secs()).unwrap() + late
            };
            let beyond = scheme.tolerance.map(beyond);
            for sign in [-1, 1] {
                let then = Timestamp::from_secs(NOW.as_secs() + sign * beyond.unwrap_or(late));
                let fresh = trial.verifier.verifies(&request, &trial.body, then);
                prop_assert_eq!(fresh, beyond.is_none(), "{}", name);
            }
        }
    }
}

fn proof_of(pairs: &Pairs) -> &str {
    pairs.last().map_or("", |(_, value)| value)
}
