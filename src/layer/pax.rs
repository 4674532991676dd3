//! Extended headers of tar archives (POSIX.1-2008, pax, "pax Extended Header").

use std::collections::BTreeMap;

/// Writes records in the order of their keys. Each is `LENGTH KEY=VALUE\n`, the
/// length counting itself.
pub(super) fn write(records: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        out.extend_from_slice(format!("{length} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// Reads records; a later one of the same key wins, as POSIX says.
pub(super) fn read(mut bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let space =
            bytes.iter().take(20).position(|&c| c == b' ').ok_or("a record has no length")?;
        let digits =
            std::str::from_utf8(&bytes[..space]).map_err(|_| "a record's length is no number")?;
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err("a record's length is no number".into());
        }
        let length: usize = digits.parse().map_err(|_| "a record's length is too large")?;
        let record = bytes.get(space + 1..length).ok_or("a record is longer than its header")?;
        let [record @ .., b'\n'] = record else {
            return Err("a record does not end in a newline".into());
        };
        let equals = record.iter().position(|&c| c == b'=').ok_or("a record has no `=`")?;
        let key =
            std::str::from_utf8(&record[..equals]).map_err(|_| "a record's key is not UTF-8")?;
        records.insert(key.to_owned(), record[equals + 1..].to_vec());
        bytes = &bytes[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut records = BTreeMap::new();
        for (key, length) in
            [("a", 0), ("b", 5), ("c", 93), ("d", 94), ("e", 95), ("f", 990), ("g", 991)]
        {
            records.insert(key.to_owned(), vec![b'\n'; length]);
        }
        assert_eq!(read(&write(&records)).unwrap(), records);
        assert_eq!(write(&[("path".to_owned(), b"x".to_vec())].into()), b"9 path=x\n");
    }

    #[test]
    fn refused() {
        for bad in [
            "x",
            "5 a=b",
            "6 a=b\nz",
            "0 a=b\n",
            "-1 a=b\n",
            "5 ab\n\n",
            "99999999999999999999 a=b\n",
            "3 \n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
