//! What lists show of events that are pending or dead, a number each: many events share few names.

use std::collections::HashMap;

use super::record::Label;

/// Most different labels. Names come from senders: an event beyond these is shown with what its record says.
const MAX_LABELS: usize = 65_536;

/// A label's number; 0 is none.
pub(super) type LabelNumber = u32;

/// Every label by number.
#[derive(Debug, Default)]
pub(super) struct Labels {
    numbers: HashMap<Label, LabelNumber>,
    labels: Vec<Label>,
}

impl Labels {
    /// The number of a label, new if the label is; 0 when there are no numbers left.
    pub(super) fn number(&mut self, label: &Label) -> LabelNumber {
        if let Some(number) = self.numbers.get(label) {
            return *number;
        }
        if self.labels.len() >= MAX_LABELS {
            return 0;
        }
        self.labels.push(label.clone());
        let number = LabelNumber::try_from(self.labels.len()).unwrap_or(0);
        self.numbers.insert(label.clone(), number);
        number
    }

    /// The label behind a number.
    pub(super) fn get(&self, number: LabelNumber) -> Option<&Label> {
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
        let label = |n: usize| Label::new("ci", &n.to_string());
        assert_eq!((labels.number(&label(7)), labels.number(&label(7))), (1, 1));
        for n in 0..MAX_LABELS {
            labels.number(&label(n));
        }
        assert_eq!(labels.number(&label(MAX_LABELS + 1)), 0);
        assert_eq!(labels.get(1), Some(&label(7)));
        assert_eq!((labels.get(0), labels.get(1_000_000)), (None, None));
    }
}
