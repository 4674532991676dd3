//! Which parts of two sequences correspond: the pairs, in order, whose weights sum up to
//! most (the dynamic programme of Needleman and Wunsch, with gaps that cost nothing).

/// The weight of parts that are the same.
pub(super) const SAME: u64 = 1 << 40;
/// The weight of parts that are of one origin, as two runs of an instruction.
pub(super) const AKIN: u64 = 1 << 20;
/// The weight of parts of which nothing is known: they are better paired than not.
pub(super) const ANY: u64 = 1;

/// Most pairs that are weighed: the table has eight bytes for each.
const MOST: usize = 1 << 20;

/// Pairs parts by their places; those without a partner have `None`. `weight` is 0 for
/// parts that may not be paired. Sequences that are too long for the table are paired
/// place by place between what is the same at both ends.
pub(super) fn align(
    a: usize,
    b: usize,
    weight: impl Fn(usize, usize) -> u64,
) -> Vec<(Option<usize>, Option<usize>)> {
    let short = a.min(b);
    let head = (0..short).take_while(|&at| weight(at, at) >= SAME).count();
    let tail =
        (0..short - head).take_while(|&back| weight(a - 1 - back, b - 1 - back) >= SAME).count();
    let (rows, columns) = (a - head - tail, b - head - tail);
    let mut pairs: Vec<_> = (0..head).map(|at| (Some(at), Some(at))).collect();
    if rows.saturating_mul(columns) > MOST {
        pairs.extend((0..rows.max(columns)).map(|at| {
            let place = |count: usize| (at < count).then_some(head + at);
            (place(rows), place(columns))
        }));
    } else {
        middle(rows, columns, &|i, j| weight(head + i, head + j), |i, j| {
            pairs.push((i.map(|i| head + i), j.map(|j| head + j)));
        });
    }
    pairs.extend((0..tail).rev().map(|back| (Some(a - 1 - back), Some(b - 1 - back))));
    pairs
}

fn middle(
    rows: usize,
    columns: usize,
    weight: &dyn Fn(usize, usize) -> u64,
    mut put: impl FnMut(Option<usize>, Option<usize>),
) {
    // What the parts from (i, j) on can have at most.
    let width = columns + 1;
    let mut best = vec![0_u64; (rows + 1) * width];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            let skip = best[(i + 1) * width + j].max(best[i * width + j + 1]);
            let paired = match weight(i, j) {
                0 => 0,
                own => own.saturating_add(best[(i + 1) * width + j + 1]),
            };
            best[i * width + j] = skip.max(paired);
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < rows || j < columns {
        let paired = i < rows && j < columns && {
            let own = weight(i, j);
            own > 0 && own.saturating_add(best[(i + 1) * width + j + 1]) == best[i * width + j]
        };
        if paired {
            put(Some(i), Some(j));
            (i, j) = (i + 1, j + 1);
        } else if i < rows && (j == columns || best[(i + 1) * width + j] == best[i * width + j]) {
            put(Some(i), None);
            i += 1;
        } else {
            put(None, Some(j));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capital letters are akin to small ones.
    fn pairs(a: &str, b: &str) -> String {
        let (a, b) = (a.as_bytes(), b.as_bytes());
        let weight = |i: usize, j: usize| match (a[i], b[j]) {
            (x, y) if x == y => SAME,
            (x, y) if x.eq_ignore_ascii_case(&y) => AKIN,
            _ => ANY,
        };
        let shown = |at: Option<usize>, of: &[u8]| at.map_or('-', |at| char::from(of[at]));
        let pairs = align(a.len(), b.len(), weight);
        let pairs = pairs.iter().map(|(i, j)| format!("{}{}", shown(*i, a), shown(*j, b)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_corresponds_is_found() {
        for (a, b, expected) in [
            ("", "", ""),
            ("", "x", "-x"),
            ("abc", "abc", "aa bb cc"),
            ("abc", "aXbc", "aa -X bb cc"),
            ("abcd", "aXBCD", "aa -X bB cC dD"),
            ("abc", "axc", "aa bx cc"),
            ("abc", "ac", "aa b- cc"),
            ("ab", "ba", "a- bb -a"),
            ("aB", "Xb", "aX Bb"),
        ] {
            assert_eq!(pairs(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn long_sequences_are_paired_by_place() {
        let weight = |i: usize, j: usize| if i == j && i < 10 { SAME } else { ANY };
        let pairs = align(5000, 5001, weight);
        assert_eq!(pairs.len(), 5001);
        assert_eq!(pairs[4999], (Some(4999), Some(4999)));
        assert_eq!(pairs[5000], (None, Some(5000)));
    }
}
