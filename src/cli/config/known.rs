//! The keys that a configuration may have.

/// Outside of any table.
pub const TOP: &[&str] = &["port", "relay", "inbox", "lan", "limits"];
/// In the table `limits`.
pub const LIMITS: &[&str] = &[
    "max-clients",
    "max-per-contact",
    "max-per-address",
    "rate",
    "silence",
    "max-file",
    "max-total",
    "reserve",
];

/// What `key`, which is not among `known`, was probably meant to be; else all that there are.
pub fn hint(key: &str, prefix: &str, known: &[&str]) -> String {
    // What belongs into a table was probably meant for it.
    let everywhere = TOP.iter().map(|key| ("", *key)).chain(LIMITS.iter().map(|k| ("limits.", *k)));
    let near = |(_, known): &(&str, &str)| distance(key, known);
    let nearest = everywhere.filter(|one| near(one) <= 2.max(one.1.len() / 3));
    match nearest.min_by_key(|one| (near(one), one.0 != prefix)) {
        Some(("limits.", key)) if prefix.is_empty() => {
            format!("perhaps {key} in the table [limits]?")
        }
        Some(("", key)) if !prefix.is_empty() => format!("perhaps {key}, before any table?"),
        Some((_, key)) => format!("perhaps {key}?"),
        None => format!("the keys here are {}", known.join(", ")),
    }
}

/// How many characters have to be changed, left out or put in, to make one of the other
/// (Levenshtein). `_` and `-` are the same here, and what is long is far from everything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 32;
    let fold = |c: char| if c == '_' { '-' } else { c.to_ascii_lowercase() };
    let a: Vec<char> = a.chars().take(LONGEST + 1).map(fold).collect();
    if a.len() > LONGEST {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, d) in b.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, c) in a.iter().enumerate() {
            let other = diagonal + usize::from(*c != d);
            diagonal = row[j + 1];
            row[j + 1] = other.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_a_typing_mistake_makes() {
        assert_eq!(distance("rate", "rate"), 0);
        assert_eq!(distance("Max_Clients", "max-clients"), 0);
        assert_eq!(distance("prot", "port"), 2);
        assert_eq!(distance("", "port"), 4);
        assert_eq!(distance("max-client", "max-clients"), 1);
        assert_eq!(distance(&"x".repeat(1000), "port"), usize::MAX);
    }
}
