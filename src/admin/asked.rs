//! What a URL asks of a list: a query, where its page begins and how long it is.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::answer::Problem;
use crate::model::EventId;
use crate::rules::moment::moment;
use crate::rules::query::{Query, StateWord};
use crate::time::Timestamp;

/// Most items of a page.
pub(super) const MAX_LIMIT: usize = 200;
/// Items of a page when nothing is said.
const LIMIT: usize = 50;
/// Most values of one name.
const MAX_VALUES: usize = 100;
/// Longest cursor.
const MAX_CURSOR: usize = 1024;

/// Names and values of a URL's query, decoded.
#[derive(Debug, Default)]
pub(super) struct Words(Vec<(String, String)>);

/// A page of a list that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) query: Query,
    pub(super) cursor: Option<Cursor>,
    pub(super) limit: usize,
    /// With the latest attempt of each.
    pub(super) latest: bool,
}

/// Where a page begins: after this event or, of a list of deliveries, after so many deliveries of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) sequence: u64,
    pub(super) skip: Option<usize>,
}

impl Words {
    /// Reads what follows `?`. A name that is not among `known` is a mistake.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut words: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if !known.contains(&name.as_str()) {
                let all = known.join(", ");
                return Err(Problem::malformed(format!(
                    "there is no parameter {name:?} here; there are {all}"
                )));
            }
            if words.iter().filter(|(other, _)| *other == name).count() >= MAX_VALUES {
                return Err(Problem::malformed(format!(
                    "{name} has more than {MAX_VALUES} values"
                )));
            }
            if name == "cursor" && value.len() > MAX_CURSOR {
                return Err(not_a_cursor());
            }
            words.push((name, value));
        }
        Ok(Self(words))
    }

    /// Every value of a name.
    fn all(&self, name: &str) -> Vec<String> {
        let of_name = self.0.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| value.clone()).collect()
    }

    /// The one value of a name.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(Problem::malformed(format!("{name} is given more than once")));
        }
        Ok(value)
    }

    /// The same, as something that is read from text; `what` says what it must be.
    pub(super) fn read<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_other) => Err(Problem::malformed(format!("{name} takes {what}, not {text:?}"))),
        }
    }

    /// Every value of a name, each as something that is read from text.
    pub(super) fn read_all<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Problem> {
        let read = |text: String| {
            parse(&text).ok_or_else(|| Problem::malformed(format!("{text:?} is no {name}")))
        };
        self.all(name).into_iter().map(read).collect()
    }

    /// The same for one of a few words.
    pub(super) fn read_words<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<Vec<T>, Problem> {
        let read = |text: String| {
            let found = all.iter().find(|it| word(**it) == text);
            found.copied().ok_or_else(|| {
                let all: Vec<_> = all.iter().map(|it| word(*it)).collect();
                Problem::malformed(format!("{text:?} is no {name}; there are {}", all.join(", ")))
            })
        };
        self.all(name).into_iter().map(read).collect()
    }

    /// A moment, or an age before `now`.
    pub(super) fn moment(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        moment(text, now).map(Some).map_err(|why| Problem::malformed(format!("{name}: {why}")))
    }

    /// Most items of the page.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let what = format!("a number from 1 to {MAX_LIMIT}");
        let limit = self.read("limit", &what)?.unwrap_or(LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            Ok(limit)
        } else {
            Err(Problem::malformed(format!("limit takes {what}")))
        }
    }
}

fn decoded(text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    match decoded {
        Ok(text) => Ok(text.into_owned()),
        Err(_not_text) => Err(Problem::malformed("a parameter is not UTF-8")),
    }
}

/// What is said of a cursor that no page ended with.
pub(super) fn not_a_cursor() -> Problem {
    Problem::malformed("cursor takes the `next` of another page")
}

/// The parameters of [`Asked`].
const PARAMETERS: [&str; 17] = [
    "source", "event", "target", "state", "reason", "since", "until", "attempts", "status",
    "error", "q", "header", "pointer", "id", "cursor", "limit", "latest",
];

impl Asked {
    /// Reads what follows `?`; `without` are parameters that mean nothing here.
    pub(super) fn parse(
        query: Option<&str>,
        without: &[&str],
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let known: Vec<_> =
            PARAMETERS.into_iter().filter(|known| !without.contains(known)).collect();
        let words = Words::parse(query, &known)?;
        let pointer = words.one("pointer")?.map(|text| {
            let (pointer, value) = text.split_once('=').unwrap_or((text, ""));
            (pointer.to_owned(), value.to_owned())
        });
        let query = Query {
            source: words.all("source"),
            event: words.all("event"),
            target: words.all("target"),
            state: words.read_words("state", &StateWord::ALL, StateWord::as_str)?,
            reason: words.all("reason"),
            since: words.moment("since", now)?,
            until: words.moment("until", now)?,
            attempts: words.read("attempts", "a number")?,
            status: words.all("status"),
            error: words.all("error"),
            q: words.one("q")?.map(str::to_owned),
            header: words.one("header")?.map(str::to_owned),
            pointer,
            ids: words.all("id"),
        };
        if let Some(mistake) = query.mistake() {
            return Err(Problem::malformed(mistake));
        }
        let cursor = words.one("cursor")?.map(Cursor::parse).transpose()?;
        let latest = words.read("latest", "true or false")?.unwrap_or(false);
        Ok(Self { query, cursor, limit: words.limit()?, latest })
    }

    /// The ids that are asked for, each once.
    pub(super) fn ids(&self) -> Vec<EventId> {
        let mut ids: Vec<_> = self.query.ids.iter().filter_map(|id| EventId::parse(id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl Cursor {
    /// Reads what [`Cursor::text`] wrote.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let read = || {
            let (sequence, skip) = match text.split_once('-') {
                Some((sequence, skip)) => (sequence, Some(skip.parse().ok()?)),
                None => (text, None),
            };
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
            let sequence = u64::from_str_radix(sequence, 16).ok().filter(|_| plain(sequence))?;
            Some(Self { sequence, skip })
        };
        read().ok_or_else(not_a_cursor)
    }

    /// The opaque text that a page ends with.
    pub(super) fn text(self) -> String {
        match self.skip {
            Some(skip) => format!("{:x}-{skip}", self.sequence),
            None => format!("{:x}", self.sequence),
        }
    }

    /// What the journal is asked for: events before this place.
    pub(super) fn before(self) -> u64 {
        // The event itself is wanted once more when some of its deliveries are left.
        if self.skip.is_some() { self.sequence.saturating_add(1) } else { self.sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, Problem> {
        Asked::parse(Some(query), &[], Timestamp::from_secs(1_000))
    }

    #[test]
    fn a_query_is_read_from_a_url() {
        let asked = asked(
            "source=a&source=b&event=build.*&state=dead&since=100s&q=caf%C3%A9+x&limit=7\
             &pointer=/a/b=c%3Dd&status=5xx&attempts=2&cursor=ff-3&latest=true",
        )
        .unwrap();
        let query = &asked.query;
        assert_eq!((query.source.join(","), query.q.as_deref()), ("a,b".into(), Some("café x")));
        assert_eq!(query.state, [StateWord::Dead]);
        assert_eq!(query.since, Some(Timestamp::from_secs(900)));
        assert_eq!(query.pointer, Some(("/a/b".into(), "c=d".into())));
        assert_eq!((asked.limit, query.attempts, asked.latest), (7, Some(2), true));
        let cursor = asked.cursor.unwrap();
        assert_eq!((cursor.sequence, cursor.skip, cursor.before()), (255, Some(3), 256));
        assert_eq!(cursor.text(), "ff-3");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_sentence() {
        for bad in [
            "sorce=a",
            "state=gone",
            "since=soon",
            "limit=0",
            "limit=201",
            "limit=x",
            "limit=1&limit=2",
            "q=",
            "q=%ff",
            "pointer=a",
            "cursor=",
            "cursor=+1",
            "cursor=1-",
            "cursor=xyz",
            &format!("cursor={}", "0".repeat(1_025)),
            "attempts=-1",
            "id=evt_1",
            "latest=yes",
            &vec!["source=a"; 101].join("&"),
        ] {
            let problem = asked(bad).expect_err(bad);
            assert_eq!(problem.status.as_u16(), 400, "{bad}");
        }
    }
}
