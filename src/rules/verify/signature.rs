//! How signatures are laid out in their header.

use super::Scheme;

/// Most known signatures looked at in one request; a sender in rotation needs two or three.
pub(super) const MAX_CANDIDATES: usize = 16;

/// The part of a scheme that says where in its header a signature stands.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) prefix: String,
    pub(super) list: Option<char>,
    pub(super) kv: Option<(char, String)>,
}

impl Layout {
    pub(super) fn new(scheme: &Scheme) -> Result<Self, String> {
        Self::check(scheme).map_err(|(_, sentence)| sentence)?;
        let kv = scheme.kv.zip(scheme.pick.clone());
        Ok(Self { prefix: scheme.prefix.clone(), list: scheme.list, kv })
    }

    /// Whether the keys fit together; otherwise the one to blame, and a sentence.
    pub(super) fn check(scheme: &Scheme) -> Result<(), (&'static str, String)> {
        let picks = scheme.pick.as_ref().is_some_and(|pick| !pick.is_empty());
        let (key, sentence) = match (scheme.kv, &scheme.pick) {
            (Some(_), _) if !picks => {
                ("kv", "`kv` needs `pick`: the key whose values are signatures")
            }
            (None, Some(_)) => ("pick", "`pick` needs `kv`: what separates key and value"),
            _ if scheme.list.is_some() && !scheme.prefix.is_empty() => {
                ("prefix", "`prefix` cannot be used together with `list`; use `kv` and `pick`")
            }
            _ if scheme.list.is_some() && scheme.list == scheme.kv => {
                ("kv", "`list` and `kv` must be different characters")
            }
            _ => return Ok(()),
        };
        Err((key, sentence.to_owned()))
    }

    /// The elements of the header's value; `None` without the required prefix.
    fn elements<'v>(&self, value: &'v str) -> Option<impl Iterator<Item = &'v str>> {
        let value = value.strip_prefix(&*self.prefix)?;
        let (mut whole, list) = (Some(value), self.list);
        let mut parts = list.map(|list| value.split(list));
        Some(
            std::iter::from_fn(move || match &mut parts {
                Some(parts) => parts.next(),
                None => whole.take(),
            })
            .map(|element| element.trim_matches(' ')),
        )
    }

    /// The texts of the known signatures and how many there are. `None` is a refusal: none, or too many.
    pub(super) fn candidates<'v>(
        &self,
        value: &'v str,
    ) -> Option<([&'v str; MAX_CANDIDATES], usize)> {
        let mut found = [""; MAX_CANDIDATES];
        let mut count = 0;
        for element in self.elements(value)? {
            let signature = match &self.kv {
                None => Some(element),
                Some((kv, pick)) => {
                    element.split_once(*kv).filter(|(key, _)| key == pick).map(|(_, value)| value)
                }
            };
            if let Some(signature) = signature.filter(|signature| !signature.is_empty()) {
                *found.get_mut(count)? = signature;
                count += 1;
            }
        }
        (count > 0).then_some((found, count))
    }

    /// The value of a key that must occur exactly once, and not empty.
    pub(super) fn value_of<'v>(&self, value: &'v str, wanted: &str) -> Option<&'v str> {
        let (kv, _) = self.kv.as_ref()?;
        let mut values = self
            .elements(value)?
            .filter_map(|element| element.split_once(*kv))
            .filter_map(|(key, value)| (key == wanted).then_some(value));
        let first = values.next().filter(|value| !value.is_empty())?;
        values.next().is_none().then_some(first)
    }

    /// Writes a header's value, the inverse of the above.
    pub(super) fn compose(&self, stamp: Option<(&str, &str)>, signature: &str) -> String {
        let mut value = self.prefix.clone();
        let Some((kv, pick)) = &self.kv else { return value + signature };
        if let (Some((key, text)), Some(list)) = (stamp, self.list) {
            value.extend([key, kv.encode_utf8(&mut [0; 4]), text, list.encode_utf8(&mut [0; 4])]);
        }
        value.extend([pick, &*kv.encode_utf8(&mut [0; 4]), signature]);
        value
    }
}
