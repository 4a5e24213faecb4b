//! Selects messages by ids, or by prefixes of ids.

use std::{collections::BTreeSet, ops::Bound};

use crate::job::is_beginning;

/// Shortest text that is accepted as an id or a prefix, in characters.
pub const SHORTEST: usize = 6;

/// How many candidates are listed if a prefix fits several ids.
const CANDIDATES: usize = 10;

/// Ids and prefixes as a person gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenIds {
    said: Vec<String>,
    /// Whether the texts are whole ids only, and not prefixes.
    whole: bool,
}

/// The ids that a selection means, among those that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Whole ids that were found.
    pub found: BTreeSet<String>,
    /// Texts that no id begins with.
    pub unknown: Vec<String>,
    /// Texts that several ids begin with, and the first of those ids.
    pub ambiguous: Vec<(String, Vec<String>)>,
}

impl GivenIds {
    /// Takes the ids and prefixes that a person gave.
    ///
    /// # Errors
    /// One of them is shorter than [`SHORTEST`].
    pub fn new(said: &[String]) -> Result<GivenIds, String> {
        match said.iter().find(|id| id.chars().count() < SHORTEST) {
            Some(short) => Err(format!("this id is too short: \"{short}\" has fewer than {SHORTEST} characters")),
            None => Ok(GivenIds { said: said.to_vec(), whole: false }),
        }
    }

    /// Selects exactly these ids, and no id that begins with one of them.
    pub fn whole(ids: Vec<String>) -> GivenIds {
        GivenIds { said: ids, whole: true }
    }

    /// Returns whether an id may be meant.
    pub fn wants(&self, id: &str) -> bool {
        self.said.iter().any(|said| said == id || !self.whole && is_beginning(said, id))
    }

    /// Finds the ids that are meant. A whole id is never ambiguous, even if another one begins with it.
    pub fn resolve(&self, ids: &BTreeSet<String>) -> Resolved {
        let mut resolved = Resolved::default();
        for said in &self.said {
            if ids.contains(said) {
                resolved.found.insert(said.clone());
                continue;
            }
            let begin = |id: &&String| !self.whole && is_beginning(said, id);
            let candidates: Vec<_> = ids.iter().filter(begin).take(CANDIDATES).cloned().collect();
            match candidates.as_slice() {
                [] => resolved.unknown.push(said.clone()),
                [one] => drop(resolved.found.insert(one.clone())),
                _ => resolved.ambiguous.push((said.clone(), candidates)),
            }
        }
        resolved
    }
}

/// Returns the shortest prefix of `id`, of at least `least` characters, that none of the other `ids` has. Ids are
/// ASCII.
pub fn shortened<'a>(id: &'a str, ids: &BTreeSet<String>, least: usize) -> &'a str {
    let before = ids.range::<str, _>((Bound::Unbounded, Bound::Excluded(id))).next_back();
    let after = ids.range::<str, _>((Bound::Excluded(id), Bound::Unbounded)).next();
    let shared = |other: &String| id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let shared = before.into_iter().chain(after).map(shared).max().unwrap_or(0);
    id.get(..(shared + 1).max(least)).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn check(said: &[&str], there: &[&str], found: &[&str], unknown: &[&str], ambiguous: &[(&str, &[&str])]) {
        let said: Vec<_> = said.iter().map(|id| (*id).to_owned()).collect();
        let resolved = GivenIds::new(&said).unwrap().resolve(&ids(there));
        assert_eq!(resolved.found, ids(found), "{said:?}");
        assert_eq!(resolved.unknown, unknown, "{said:?}");
        let several: Vec<_> = ambiguous
            .iter()
            .map(|(said, ids)| ((*said).to_owned(), ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()))
            .collect();
        assert_eq!(resolved.ambiguous, several, "{said:?}");
    }

    #[test]
    fn whole_ids_are_no_beginnings() {
        let given_ids = GivenIds::whole(vec!["order-1".to_owned()]);
        assert!(given_ids.wants("order-1") && !given_ids.wants("order-12"));
        assert_eq!(given_ids.resolve(&ids(&["order-12"])).unknown, ["order-1"]);
    }

    #[test]
    fn ids_and_beginnings() {
        let there = ["wh_aaaabbbb", "wh_aaaacccc", "wh_dddddddd"];
        check(&["wh_aaaabbbb"], &there, &["wh_aaaabbbb"], &[], &[]);
        check(&["wh_ddd"], &there, &["wh_dddddddd"], &[], &[]);
        check(&["dddddd"], &there, &["wh_dddddddd"], &[], &[]);
        check(&["wh_aaaab", "wh_aaaabbbb"], &there, &["wh_aaaabbbb"], &[], &[]);
        check(&["wh_eeeeee"], &there, &[], &["wh_eeeeee"], &[]);
        check(&["wh_aaa"], &there, &[], &[], &[("wh_aaa", &["wh_aaaabbbb", "wh_aaaacccc"])]);
        check(&["wh_aaaa"], &["wh_aaaa", "wh_aaaab"], &["wh_aaaa"], &[], &[]);
        assert!(GivenIds::new(&["wh_aa".to_owned()]).unwrap_err().contains("fewer than 6"));
    }

    #[test]
    fn shortened_ids_stay_unique() {
        let there = ids(&["wh_aaaabbbb", "wh_aaaacccc", "wh_dddddddd"]);
        assert_eq!(shortened("wh_aaaabbbb", &there, 6), "wh_aaaab");
        assert_eq!(shortened("wh_dddddddd", &there, 6), "wh_ddd");
        assert_eq!(shortened("wh_dddddddd", &there, 99), "wh_dddddddd");
        assert_eq!(shortened("wh_aaaa", &ids(&["wh_aaaa", "wh_aaaab"]), 6), "wh_aaaa");
    }
}
