//! What somebody may have meant.

/// The candidate that is nearest to `word`, if it is near enough to be a slip.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = word.to_ascii_lowercase();
    let word: Vec<char> = word.chars().take(32).map(|c| c.to_ascii_lowercase()).collect();
    // Two slips in a word of three letters would be another word.
    let most = if word.len() < 4 { 1 } else { 2 };
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        // Who stops within a word means that word.
        .filter(|(distance, candidate)| {
            let begun = typed.len() > 2 && candidate.to_ascii_lowercase().starts_with(&typed);
            *distance <= most || begun
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours from one to the other.
fn distance(word: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|c| c.to_ascii_lowercase()).collect();
    let width = other.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for (i, a) in word.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, b) in other.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            row[j + 1] = replaced.min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && word[i - 1] == *b {
                row[j + 1] = row[j + 1].min(rows[i - 1][j - 1] + 1);
            }
        }
        rows.push(row);
    }
    rows[word.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips() {
        let names = ["RUN", "COPY", "ENTRYPOINT", "ENV", "CMD"];
        let of = |word| nearest(word, names);
        assert_eq!(of("CPOY"), Some("COPY"));
        assert_eq!(of("rn"), Some("RUN"));
        assert_eq!(of("ENTRYPONT"), Some("ENTRYPOINT"));
        assert_eq!(of("ENTRY"), Some("ENTRYPOINT"));
        assert_eq!(of("apt-get"), None);
        assert_eq!(of(""), None);
    }
}
