//! Private keys as cosign encrypts them: a JSON object with what scrypt (RFC 7914) makes a key
//! of a password by, and NaCl's secret box (XSalsa20 and Poly1305) over the PKCS#8 bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use scrypt::Params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::KeyError;
use crate::image::strict_json;

const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

/// What cosign takes: whoever wrote the file does not choose how much memory it costs. The
/// middle one is what it writes.
const COSTS: [Cost; 3] = [
    Cost { n: 1 << 15, r: 8, p: 1 },
    Cost { n: 1 << 16, r: 8, p: 1 },
    Cost { n: 1 << 17, r: 8, p: 1 },
];

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Cost,
    salt: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The key that a file holds.
pub(super) fn open(text: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let sealed: Sealed = strict_json("key", text).map_err(|_| KeyError::Sealed)?;
    if sealed.kdf.name != KDF || sealed.cipher.name != CIPHER {
        return Err(KeyError::Sealed);
    }
    if !COSTS.contains(&sealed.kdf.params) {
        return Err(KeyError::Cost);
    }
    let bytes = |text: &str| BASE64.decode(text).map_err(|_| KeyError::Sealed);
    let nonce: [u8; NONCE] =
        bytes(&sealed.cipher.nonce)?.try_into().map_err(|_| KeyError::Sealed)?;
    let key = derived(password, &bytes(&sealed.kdf.salt)?, sealed.kdf.params)?;
    let boxed = bytes(&sealed.ciphertext)?;
    unboxed(&boxed, &nonce, &key).ok_or(KeyError::Password)
}

/// The JSON object that holds a key, with a salt and a nonce that are new.
pub(super) fn seal(secret: &[u8], password: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (mut salt, mut nonce) = ([0; 32], [0; NONCE]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| KeyError::Random)?;
    let params = COSTS[1];
    let key = derived(password, &salt, params)?;
    let sealed = Sealed {
        kdf: Kdf { name: KDF.into(), params, salt: BASE64.encode(salt) },
        cipher: Cipher { name: CIPHER.into(), nonce: BASE64.encode(nonce) },
        ciphertext: BASE64.encode(boxed(secret, &nonce, &key)),
    };
    serde_json::to_vec(&sealed).map_err(|_| KeyError::Sealed)
}

fn derived(password: &[u8], salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; KEY]>, KeyError> {
    let log_n = u8::try_from(cost.n.ilog2()).map_err(|_| KeyError::Cost)?;
    let params = Params::new(log_n, cost.r, cost.p).map_err(|_| KeyError::Cost)?;
    let mut key = Zeroizing::new([0; KEY]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice()).map_err(|_| KeyError::Cost)?;
    Ok(key)
}

/// The cipher, past the bytes that are the key of the tag.
fn begun(nonce: &[u8; NONCE], key: &[u8; KEY]) -> (XSalsa20, Poly1305) {
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut first = Zeroizing::new([0; KEY]);
    cipher.apply_keystream(first.as_mut_slice());
    let tag = Poly1305::new((&*first).into());
    (cipher, tag)
}

fn boxed(secret: &[u8], nonce: &[u8; NONCE], key: &[u8; KEY]) -> Vec<u8> {
    let (mut cipher, tag) = begun(nonce, key);
    let mut text = secret.to_vec();
    cipher.apply_keystream(&mut text);
    [tag.compute_unpadded(&text).as_slice(), &text].concat()
}

fn unboxed(boxed: &[u8], nonce: &[u8; NONCE], key: &[u8; KEY]) -> Option<Zeroizing<Vec<u8>>> {
    let (tag, text) = boxed.split_at_checked(TAG)?;
    let (mut cipher, own) = begun(nonce, key);
    let own = own.compute_unpadded(text);
    // In a time that does not depend on where they differ.
    let differ = own.iter().zip(tag).fold(0, |differ, (a, b)| differ | (a ^ b));
    if differ != 0 {
        return None;
    }
    let mut text = Zeroizing::new(text.to_vec());
    cipher.apply_keystream(&mut text);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    /// The vector of NaCl's own tests (secretbox.c; "Cryptography in NaCl", 10).
    #[test]
    fn a_box_is_as_nacl_makes_it() {
        let key: [u8; 32] = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
            .try_into()
            .unwrap();
        let nonce: [u8; 24] =
            hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
        let secret = hex("be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc\
             e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31\
             0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde\
             048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864\
             5e0705");
        let expected = hex("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce\
             48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c972\
             71d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae\
             90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b3\
             7973f622a43d14a6599b1f654cb45a74e355a5");
        assert_eq!(boxed(&secret, &nonce, &key), expected);
        assert_eq!(unboxed(&expected, &nonce, &key).unwrap().to_vec(), secret);
        for at in [0, 15, 16, expected.len() - 1] {
            let mut other = expected.clone();
            other[at] ^= 1;
            assert!(unboxed(&other, &nonce, &key).is_none(), "{at}");
        }
        assert!(unboxed(&expected[..15], &nonce, &key).is_none());
    }

    #[test]
    fn what_is_sealed_opens_with_its_password_only() {
        let sealed = seal(b"secret", b"password").unwrap();
        assert_eq!(open(&sealed, b"password").unwrap().to_vec(), b"secret");
        assert!(matches!(open(&sealed, b"other"), Err(KeyError::Password)));
        let text = String::from_utf8(sealed).unwrap();
        let costly = text.replace("\"N\":65536", "\"N\":1073741824");
        assert!(matches!(open(costly.as_bytes(), b"password"), Err(KeyError::Cost)));
        for (from, to) in
            [("scrypt", "argon2"), ("nacl/secretbox", "aes"), ("\"nonce\":\"", "\"nonce\":\"AA")]
        {
            let other = text.replace(from, to);
            assert!(matches!(open(other.as_bytes(), b"password"), Err(KeyError::Sealed)), "{to}");
        }
    }
}
