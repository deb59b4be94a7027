//! What the providers do on their side, by an implementation independent of the product's: a second HMAC from
//! its definition (RFC 2104) over ring's plain digest, and second writers of hexadecimal and base64 (RFC 4648).

use ring::digest::{Algorithm, SHA256, digest};

/// HMAC with a digest that works on blocks of `block` bytes.
pub fn hmac(algorithm: &'static Algorithm, block: usize, key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut padded =
        if key.len() > block { digest(algorithm, key).as_ref().to_vec() } else { key.to_vec() };
    padded.resize(block, 0);
    let pad = |byte: u8| padded.iter().map(|b| b ^ byte).collect::<Vec<_>>();
    let inner = [&pad(0x36)[..], message].concat();
    let outer = [&pad(0x5c)[..], digest(algorithm, &inner).as_ref()].concat();
    digest(algorithm, &outer).as_ref().to_vec()
}

/// HMAC-SHA256.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac(&SHA256, 64, key, message)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).expect("below 16")).collect()
}

/// Base64 with padding, or its form for URLs, which has none.
pub fn base64(bytes: &[u8], for_urls: bool) -> String {
    let last = if for_urls { "-_" } else { "+/" };
    let letters = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last.chars());
    let letters: Vec<char> = letters.collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| group.get(at).map_or(0, |byte| u32::from(*byte));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = letters[usize::try_from(bits >> (18 - 6 * place) & 63).expect("small")];
            match (place <= group.len(), for_urls) {
                (true, _) => text.push(letter),
                (false, false) => text.push('='),
                (false, true) => {}
            }
        }
    }
    text
}

/// The value of `X-BuildPixel-Signature`.
pub fn buildpixel(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex(&hmac_sha256(secret.as_bytes(), body)))
}

/// The value of `X-Buildkite-Signature` at `timestamp` seconds.
pub fn buildkite(secret: &str, timestamp: u64, body: &[u8]) -> String {
    let mut message = format!("{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    let signature = hex(&hmac_sha256(secret.as_bytes(), &message));
    format!("timestamp={timestamp},signature={signature}")
}

#[test]
fn agrees_with_rfc_4231_and_rfc_2202() {
    let what = b"what do ya want for nothing?";
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex(&hmac_sha256(b"Jefe", what)), expected);
    let sha1 = hmac(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, 64, b"Jefe", what);
    assert_eq!(hex(&sha1), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    let sha512 = hmac(&ring::digest::SHA512, 128, b"Jefe", what);
    assert!(hex(&sha512).starts_with("164b7a7bfcf819e2e395fbe73b56e0a3"));
}

#[test]
fn agrees_with_rfc_4648() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(base64(bytes.as_bytes(), false), text);
    }
    assert_eq!(
        (base64(b"\xfb\xff", false), base64(b"\xfb\xff", true)),
        ("+/8=".into(), "-_8".into())
    );
}
