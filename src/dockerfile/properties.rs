//! Laws, and naive implementations beside the real ones, on random input.

use super::tests::Random;
use super::{Chmod, Ignore, expand, glob};

fn value(word: &str, v: Option<&str>) -> String {
    let vars = |name: &str| v.filter(|_| name == "v").map(str::to_owned);
    expand(word, '\\', &vars).unwrap_or_else(|error| panic!("{word}: {error}")).value
}

#[test]
fn words_without_signs_are_themselves() {
    let mut random = Random(1);
    for _ in 0..5_000 {
        let word = random.text(&["a", " ", "한", "\t", "{", "}", "/", "#", "<", "*", "="], 12);
        assert_eq!(value(&word, None), word);
        // Quoted, any word is itself.
        let odd = random.text(&["a", "$v", "\\", "\"", "${", " ", "한", "`"], 12);
        assert_eq!(value(&format!("'{odd}'"), Some("x")), odd);
        let escaped = odd.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        assert_eq!(value(&format!("\"{escaped}\""), Some("x")), odd);
        assert_eq!(value(&escaped, Some("x")), odd);
    }
}

#[test]
fn alternatives() {
    let mut random = Random(2);
    for _ in 0..2_000 {
        let w = random.text(&["a", "b", " ", "한", "/"], 4);
        for (v, minus, colon_minus, plus, colon_plus) in [
            (None, w.as_str(), w.as_str(), "", ""),
            (Some(""), "", w.as_str(), w.as_str(), ""),
            (Some("x y"), "x y", "x y", w.as_str(), w.as_str()),
        ] {
            assert_eq!(value(&format!("${{v-{w}}}"), v), minus);
            assert_eq!(value(&format!("${{v:-{w}}}"), v), colon_minus);
            assert_eq!(value(&format!("${{v+{w}}}"), v), plus);
            assert_eq!(value(&format!("${{v:+{w}}}"), v), colon_plus);
        }
    }
}

/// `*` and `?` by trying everything; no pattern here has an escape.
fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|at| fits(rest, &text[at..])),
        Some(('?', rest)) => !text.is_empty() && fits(rest, &text[1..]),
        Some((c, rest)) => text.first() == Some(c) && fits(rest, &text[1..]),
    }
}

#[test]
fn trimming_and_replacing() {
    let mut random = Random(3);
    for _ in 0..5_000 {
        let text = random.text(&["a", "b", "한"], 6);
        let pattern = random.text(&["a", "b", "*", "?"], 3);
        let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        let n = t.len();
        let string = |chars: &[char]| chars.iter().collect::<String>();
        let first = |mut of: Box<dyn Iterator<Item = usize>>, front: bool| {
            let found = of.find(|at| fits(&p, if front { &t[..*at] } else { &t[*at..] }));
            found.map_or_else(|| text.clone(), |at| string(if front { &t[at..] } else { &t[..at] }))
        };
        let is = |operator: &str| value(&format!("${{v{operator}{pattern}}}"), Some(&text));
        assert_eq!(is("#"), first(Box::new(0..=n), true), "{text} # {pattern}");
        assert_eq!(is("##"), first(Box::new((0..=n).rev()), true), "{text} ## {pattern}");
        assert_eq!(is("%"), first(Box::new((0..=n).rev()), false), "{text} % {pattern}");
        assert_eq!(is("%%"), first(Box::new(0..=n), false), "{text} %% {pattern}");

        let longest = |at: usize| (at..=n).rev().find(|end| fits(&p, &t[at..*end]));
        let once = (0..=n).find_map(|at| Some((at, longest(at)?)));
        let want = once
            .map_or_else(|| text.clone(), |(at, end)| string(&t[..at]) + "-" + &string(&t[end..]));
        assert_eq!(value(&format!("${{v/{pattern}/-}}"), Some(&text)), want, "{text} {pattern}");
    }
}

/// Go's `filepath.Match` and `**` of ignore files, without classes.
fn path_fits(pattern: &[char], path: &[char], stars: bool) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', rest @ ..] if stars => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            // The end, or nothing, or whole folders.
            rest.is_empty()
                || path_fits(rest, path, stars)
                || (0..path.len())
                    .any(|at| path[at] == '/' && path_fits(rest, &path[at + 1..], stars))
        }
        ['*', rest @ ..] => {
            let most = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=most).any(|at| path_fits(rest, &path[at..], stars))
        }
        ['?', rest @ ..] => {
            path.first().is_some_and(|c| *c != '/') && path_fits(rest, &path[1..], stars)
        }
        [c, rest @ ..] => path.first() == Some(c) && path_fits(rest, &path[1..], stars),
    }
}

#[test]
fn paths() {
    let mut random = Random(4);
    let chars = |text: &str| text.chars().collect::<Vec<char>>();
    for _ in 0..10_000 {
        let path = random.text(&["a", "b", "c", "/", "한"], 6);
        let pattern = random.text(&["a", "b", "*", "?", "/"], 5);
        let want = path_fits(&chars(&pattern), &chars(&path), false);
        assert_eq!(glob::matches(&pattern, path.as_bytes()), Ok(want), "{pattern} {path}");

        // Of an ignore file: the path itself, or a folder above it.
        let path = random.text(&["a/", "b/", "ab/"], 3) + "c";
        let pattern =
            random.text(&["a/", "b/", "**/", "*/", "?/"], 3) + random.one(&["c", "a", "**"]);
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let want =
            ends.into_iter().any(|end| path_fits(&chars(&pattern), &chars(&path[..end]), true));
        let ignore = Ignore::parse(&pattern).unwrap();
        assert_eq!(ignore.excluded(&path).is_some(), want, "{pattern} {path}");

        // What comes last decides.
        let last = |text: String| Ignore::parse(&text).unwrap().excluded(&path).is_some();
        assert!(!last(format!("{pattern}\n!{path}")), "{pattern} {path}");
        assert!(last(format!("!{pattern}\n{path}")), "{pattern} {path}");
        assert_eq!(last(format!("{pattern}\n{pattern}")), want);
    }
}

#[test]
fn modes_by_letters() {
    let mut random = Random(5);
    for _ in 0..5_000 {
        let (who, op) = (random.one(&["u", "g", "o", "ug", "a"]), random.one(&["+", "-", "="]));
        let what = random.one(&["r", "w", "x", "rw", "rx", "rwx", ""]);
        let mode = u32::try_from(random.below(0o1000)).unwrap();
        let mut want = 0;
        for (shift, name) in [(6, 'u'), (3, 'g'), (0, 'o')] {
            for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
                let had = mode >> shift & bit != 0;
                let meant = who.contains(name) || who == "a";
                let listed = what.contains(letter);
                let has = match op {
                    _ if !meant => had,
                    "+" => had || listed,
                    "-" => had && !listed,
                    _ => listed,
                };
                want |= if has { bit << shift } else { 0 };
            }
        }
        let chmod: Chmod = format!("{who}{op}{what}").parse().unwrap();
        assert_eq!(chmod.apply(mode, false), want, "{chmod} of {mode:o}");
    }
}
