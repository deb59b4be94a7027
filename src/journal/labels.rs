//! What lists show of events that are pending or dead, a number each: many events share few names.

use std::collections::HashMap;
use std::sync::Arc;

use super::record::{self, Label};

/// Most different labels. Names come from senders: an event beyond these is shown with what its record says.
const MAX_LABELS: usize = 65_536;

/// A label's number; 0 is none.
pub(super) type LabelNumber = u32;

/// Every label by number.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// By source and name, so that a label that is known needs no copy of either to be found.
    numbers: HashMap<String, HashMap<String, LabelNumber>>,
    labels: Vec<Arc<Label>>,
}

impl Labels {
    /// What lists show of an event, and its number, new if the label is; 0 when there are no numbers left.
    pub(super) fn of(&mut self, source: &str, name: &str) -> (LabelNumber, Arc<Label>) {
        let (source, name) = record::label(source, name);
        let known = self.numbers.get(source).and_then(|names| names.get(name));
        if let Some((number, label)) = known.and_then(|it| Some((*it, self.get(*it)?))) {
            return (number, Arc::clone(label));
        }
        let label = Arc::new(Label { source: source.to_owned(), name: name.to_owned() });
        (self.add(&label), label)
    }

    /// The number of a label, new if the label is; 0 when there are no numbers left.
    pub(super) fn number(&mut self, label: &Arc<Label>) -> LabelNumber {
        let known = self.numbers.get(&label.source).and_then(|names| names.get(&label.name));
        known.copied().unwrap_or_else(|| self.add(label))
    }

    fn add(&mut self, label: &Arc<Label>) -> LabelNumber {
        if self.labels.len() >= MAX_LABELS {
            return 0;
        }
        self.labels.push(Arc::clone(label));
        let number = LabelNumber::try_from(self.labels.len()).unwrap_or(0);
        let names = self.numbers.entry(label.source.clone()).or_default();
        names.insert(label.name.clone(), number);
        number
    }

    /// The label behind a number.
    pub(super) fn get(&self, number: LabelNumber) -> Option<&Arc<Label>> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.labels.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_its_number_and_there_is_an_end_to_them() {
        let mut labels = Labels::default();
        let (first, label) = labels.of("ci", "7");
        assert_eq!((first, labels.of("ci", "7").0, labels.number(&label)), (1, 1, 1));
        assert_eq!(labels.of("cd", "7").0, 2);
        let other = Arc::new(Label { source: "cd".into(), name: "8".into() });
        assert_eq!((labels.number(&other), labels.of("cd", "8")), (3, (3, other)));
        for n in 0..MAX_LABELS {
            labels.of("ci", &n.to_string());
        }
        let beyond = (MAX_LABELS + 1).to_string();
        let (none, label) = labels.of("ci", &beyond);
        assert_eq!((none, &label.name, labels.number(&label)), (0, &beyond, 0));
        assert_eq!(labels.get(1).unwrap().name, "7");
        assert_eq!((labels.get(0), labels.get(1_000_000)), (None, None));
    }
}
