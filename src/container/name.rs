//! Names and identities of containers.

use rustix::rand::{GetRandomFlags, getrandom};

const FIRST: [&str; 32] = [
    "amber", "brave", "brisk", "calm", "clever", "cosy", "crisp", "dapper", "eager", "fair",
    "fond", "gentle", "glad", "hardy", "jolly", "keen", "kind", "lively", "lucid", "mellow",
    "merry", "modest", "nimble", "noble", "plucky", "proud", "quick", "quiet", "sunny", "swift",
    "warm", "witty",
];
const SECOND: [&str; 32] = [
    "anvil", "badger", "beacon", "birch", "bobbin", "brook", "cedar", "comet", "cove", "curlew",
    "ember", "falcon", "fern", "finch", "flint", "glacier", "harbor", "heron", "juniper",
    "lantern", "maple", "marten", "meadow", "otter", "pebble", "plover", "raven", "river",
    "sparrow", "thistle", "walnut", "willow",
];

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// Twelve random hexadecimal digits.
pub(super) fn new_id() -> std::io::Result<String> {
    Ok(random::<6>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Two random words, such as `quiet-otter`.
pub(super) fn suggest() -> std::io::Result<String> {
    let [first, second] = random::<2>()?;
    let word = |list: &[&'static str; 32], at: u8| list[usize::from(at) % list.len()];
    Ok(format!("{}-{}", word(&FIRST, first), word(&SECOND, second)))
}

/// docker's rule: a letter or digit, then also `_`, `.` and `-`.
pub(super) fn is_valid(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let id = new_id().unwrap();
        assert!(id.len() == 12 && id.bytes().all(|c| c.is_ascii_hexdigit()));
        assert!(is_valid(&suggest().unwrap()));
        for good in ["a", "web-1", "9", "a_b.c"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "ä", "../x"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
