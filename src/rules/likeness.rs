//! What was probably meant by a name that nothing has.

/// The known word that is most like the written one, if it is as like as `least` (Jaro-Winkler, 0 to 1).
pub fn likest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
    least: f64,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(written, word), word))
        .filter(|(likeness, _)| *likeness >= least)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, word)| word)
}

/// The end of a sentence that says that there is no such name: the one that was meant, or all there are.
pub fn instead<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    /// Most names that are listed.
    const MOST: usize = 20;
    /// A guess at less than this is of no help.
    const SIMILAR: f64 = 0.7;
    if let Some(near) = likest(written, known.clone(), SIMILAR) {
        return format!("did you mean {near:?}?");
    }
    let mut names: Vec<_> = known.into_iter().take(MOST.saturating_add(1)).collect();
    if names.is_empty() {
        return "there are none".to_owned();
    }
    if names.len() > MOST {
        names.truncate(MOST);
        names.push("...");
    }
    format!("there are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nothing_has_is_answered_with_the_nearest_or_with_all() {
        let known = ["billing", "crm", "shop"];
        assert_eq!(instead("biling", known), "did you mean \"billing\"?");
        assert_eq!(instead("shpo", known), "did you mean \"shop\"?");
        assert_eq!(instead("zzz", known), "there are billing, crm, shop");
        assert_eq!(instead("zzz", []), "there are none");
        let many: Vec<_> = (0..30).map(|at| format!("t{at}")).collect();
        let said = instead("zzz", many.iter().map(String::as_str));
        assert!(said.ends_with(", t19, ..."), "{said}");
        assert_eq!(likest("a", ["b"], 0.5), None);
    }
}
