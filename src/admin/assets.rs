//! The files of the page, embedded in the binary: no build step, no request to anywhere else.
//!
//! A file that is added to `dashboard/` is added to [`ASSETS`]; `index.html` is at `/`, everything else below `/assets/`.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};

use super::answer::{Answer, with_type};

/// One embedded file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

/// Names the path of a file, its type, and embeds it.
macro_rules! asset {
    ($path:literal, $content_type:literal, $file:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("dashboard/", $file)),
        }
    };
}

/// Every file of the page.
static ASSETS: [Asset; 1] = [asset!("/", "text/html; charset=utf-8", "index.html")];

impl Asset {
    /// The file at a path.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        ASSETS.iter().find(|asset| asset.path == path)
    }

    /// The file, unless who asks has it already.
    pub(super) fn answer(&'static self, asked: &HeaderMap) -> Answer {
        let tag = format!("\"{:08x}-{:x}\"", crc32c::crc32c(self.bytes), self.bytes.len());
        let known = asked.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        let is_known = known.is_some_and(|known| known.split(',').any(|it| it.trim() == tag));
        let (status, bytes) = if is_known {
            (StatusCode::NOT_MODIFIED, &[][..])
        } else {
            (StatusCode::OK, self.bytes)
        };
        let mut answer = with_type(status, self.content_type, bytes.into());
        let fields = answer.headers_mut();
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            fields.insert(ETAG, tag);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_once_and_then_only_confirmed() {
        let page = Asset::find("/").unwrap();
        let first = page.answer(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()["content-type"], "text/html; charset=utf-8");
        let policy = first.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let mut asked = HeaderMap::new();
        asked.insert(IF_NONE_MATCH, first.headers()["etag"].clone());
        assert_eq!(page.answer(&asked).status(), StatusCode::NOT_MODIFIED);
        asked.insert(IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(page.answer(&asked).status(), StatusCode::OK);
    }
}
