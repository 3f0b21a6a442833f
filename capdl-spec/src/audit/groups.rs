//! Pairs of names, in few words: `a, b, c: each to every other`.

use std::collections::BTreeSet;

/// Ordered pairs, by positions.
pub(super) type Pairs = BTreeSet<(usize, usize)>;

/// In words, a line each.
pub(super) fn lines(pairs: &Pairs, name: &dyn Fn(usize) -> String) -> Vec<String> {
    let members: BTreeSet<usize> = pairs.iter().flat_map(|&(from, to)| [from, to]).collect();
    let list = |some: &BTreeSet<usize>| names(&some.iter().map(|&n| name(n)).collect::<Vec<_>>());
    if members.len() > 2 && pairs.len() == members.len() * (members.len() - 1) {
        return vec![format!("{}: each to every other", list(&members))];
    }
    let (mut left, mut lines) = (pairs.clone(), Vec::new());
    // The process with most flows first: a hub is said in one line.
    while let Some(hub) =
        members.iter().max_by_key(|&&n| (degree(&left, n), usize::MAX - n)).filter(|_| !left.is_empty())
    {
        let (to, from): (BTreeSet<usize>, BTreeSet<usize>) = (
            left.iter().filter(|(one, _)| one == hub).map(|(_, other)| *other).collect(),
            left.iter().filter(|(_, other)| other == hub).map(|(one, _)| *one).collect(),
        );
        let both: BTreeSet<usize> = to.intersection(&from).copied().collect();
        let (only_to, only_from) = (&to - &both, &from - &both);
        if !both.is_empty() {
            lines.push(format!("{} ↔ {}", name(*hub), list(&both)));
        }
        if !only_to.is_empty() {
            lines.push(format!("{} → {}", name(*hub), list(&only_to)));
        }
        if !only_from.is_empty() {
            lines.push(format!("{} → {}", list(&only_from), name(*hub)));
        }
        left.retain(|(one, other)| one != hub && other != hub);
    }
    lines
}

fn degree(pairs: &Pairs, n: usize) -> usize {
    pairs.iter().filter(|(from, to)| *from == n || *to == n).count()
}

/// A list of names; three and more that differ in consecutive numbers at their ends are `web0 to web7`.
pub(super) fn names(all: &[String]) -> String {
    let split = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        Some((stem.to_string(), name[stem.len()..].parse::<u64>().ok()?))
    };
    let mut said: Vec<String> = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let follows = |n: usize| match (split(&all[n - 1]), split(&all[n])) {
            (Some((a, i)), Some((b, j))) => a == b && i + 1 == j,
            _ => false,
        };
        let end = (at + 1..all.len()).find(|&n| !follows(n)).unwrap_or(all.len());
        match end - at {
            1 | 2 => said.extend(all[at..end].iter().cloned()),
            _ => said.push(format!("{} to {}", all[at], all[end - 1])),
        }
        at = end;
    }
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(usize, usize)]) -> Vec<String> {
        lines(&pairs.iter().copied().collect(), &|n| format!("{}", char::from(b'a' + n as u8)))
    }

    #[test]
    fn pairs_are_said_in_few_words() {
        assert_eq!(said(&[(0, 1)]), ["a → b"]);
        assert_eq!(said(&[(0, 1), (1, 0)]), ["a ↔ b"]);
        assert_eq!(said(&[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]), ["a, b, c: each to every other"]);
        assert_eq!(said(&[(0, 1), (1, 0), (2, 1), (1, 2), (1, 3)]), ["b ↔ a, c", "b → d"]);
        assert_eq!(said(&[(0, 2), (1, 2)]), ["a, b → c"]);
        assert_eq!(said(&[(0, 1), (2, 3)]), ["a → b", "c → d"]);
    }

    #[test]
    fn numbered_names_are_said_as_a_range() {
        let said = |all: &[&str]| names(&all.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(said(&["web0", "web1", "web2", "web3"]), "web0 to web3");
        assert_eq!(said(&["a", "web9", "web10", "web11", "b", "c1", "c2"]), "a, web9 to web11, b, c1, c2");
        assert_eq!(said(&["a", "b"]), "a, b");
    }
}
