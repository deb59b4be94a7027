//! What the providers do on their side, by an implementation independent of the product's: a second HMAC from
//! its definition (RFC 2104) over ring's plain digest.

use ring::digest::{SHA256, digest};

/// HMAC-SHA256.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        let short = digest(&SHA256, key);
        block[..32].copy_from_slice(short.as_ref());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |byte: u8| block.map(|b| b ^ byte).to_vec();
    let mut inner = pad(0x36);
    inner.extend_from_slice(message);
    let mut outer = pad(0x5c);
    outer.extend_from_slice(digest(&SHA256, &inner).as_ref());
    digest(&SHA256, &outer).as_ref().to_vec()
}

/// The value of `X-BuildPixel-Signature`.
pub fn buildpixel(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac_sha256(secret.as_bytes(), body)))
}

/// The value of `X-Buildkite-Signature` at `timestamp` seconds.
pub fn buildkite(secret: &str, timestamp: u64, body: &[u8]) -> String {
    let mut message = format!("{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    let signature = hex::encode(hmac_sha256(secret.as_bytes(), &message));
    format!("timestamp={timestamp},signature={signature}")
}

#[test]
fn agrees_with_rfc_4231() {
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex::encode(hmac_sha256(b"Jefe", b"what do ya want for nothing?")), expected);
}
