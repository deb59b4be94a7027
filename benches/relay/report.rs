//! The figures, gathered over the rounds: medians, their spread, and the ratios with what they should be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Figures by name, in the order in which they came.
#[derive(Default)]
pub struct Report {
    order: Vec<(String, &'static str)>,
    values: BTreeMap<String, Vec<f64>>,
}

/// Which way a ratio should go.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure by another one.
pub struct Ratio {
    pub name: &'static str,
    pub above: String,
    pub below: String,
    pub goal: Goal,
}

/// A figure that has a bound of its own.
pub struct Bound {
    pub figure: String,
    pub goal: Goal,
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

impl Report {
    /// One more value of a figure.
    pub fn add(&mut self, figure: &str, unit: &'static str, value: f64) {
        if !self.values.contains_key(figure) {
            self.order.push((figure.to_owned(), unit));
        }
        println!("  {figure:<52} {value:>12.1} {unit}");
        self.values.entry(figure.to_owned()).or_default().push(value);
    }

    fn median(&self, figure: &str) -> Option<f64> {
        let mut sorted = self.values.get(figure)?.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        Some(if sorted.len() % 2 == 0 {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        })
    }

    /// The median of the rounds' ratios: each round compares what was measured beside each other.
    fn ratio(&self, ratio: &Ratio) -> Option<f64> {
        let (above, below) = (self.values.get(&ratio.above)?, self.values.get(&ratio.below)?);
        let mut all: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// Prints the tables, and gives them as JSON.
    pub fn finish(&self, ratios: &[Ratio], bounds: &[Bound], about: &Value) -> Value {
        println!("\n{:<54} {:>12} {:>12} {:>12}", "figure", "median", "least", "most");
        let mut figures = Vec::new();
        for (name, unit) in &self.order {
            let Some(median) = self.median(name) else { continue };
            let all = &self.values[name];
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            let most = all.iter().copied().fold(0.0, f64::max);
            println!("{name:<54} {median:>12.1} {least:>12.1} {most:>12.1} {unit}");
            figures.push(json!({ "figure": name, "unit": unit, "median": median, "values": all }));
        }
        println!("\n{:<54} {:>12} {:>12}", "ratio or bound", "value", "goal");
        let mut judged = Vec::new();
        let ratios = ratios.iter().map(|it| (it.name.to_owned(), self.ratio(it), it.goal));
        let bounds = bounds.iter().map(|it| (it.figure.clone(), self.median(&it.figure), it.goal));
        for (name, value, goal) in ratios.chain(bounds) {
            let Some(value) = value else { continue };
            let verdict = if goal.is_met(value) { "met" } else { "MISSED" };
            println!("{name:<54} {value:>12.3} {:>12} {verdict}", goal.text());
            judged.push(json!({
                "name": name, "value": value, "goal": goal.text(), "met": goal.is_met(value),
            }));
        }
        json!({ "about": about, "figures": figures, "judged": judged })
    }
}
