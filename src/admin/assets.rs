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
    ($path:expr, $content_type:literal, $file:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("dashboard/", $file)),
        }
    };
}

/// One module of the page's program.
macro_rules! module {
    ($file:literal) => {
        asset!(concat!("/assets/", $file), "text/javascript; charset=utf-8", $file)
    };
}

/// Every file of the page.
static ASSETS: [Asset; 28] = [
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/assets/icon.svg", "image/svg+xml", "icon.svg"),
    asset!("/assets/style.css", "text/css; charset=utf-8", "style.css"),
    module!("api.js"),
    module!("body.js"),
    module!("bulk.js"),
    module!("curl.js"),
    module!("dead.js"),
    module!("dialogs.js"),
    module!("dom.js"),
    module!("event.js"),
    module!("events.js"),
    module!("filters.js"),
    module!("format.js"),
    module!("lists.js"),
    module!("live.js"),
    module!("main.js"),
    module!("overview.js"),
    module!("parts.js"),
    module!("rejection.js"),
    module!("rejections.js"),
    module!("reload.js"),
    module!("resend.js"),
    module!("sources.js"),
    module!("stages.js"),
    module!("targets.js"),
    module!("timing.js"),
    module!("words.js"),
];

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

    /// What would let a text become markup or program, or ask anybody else.
    const FORBIDDEN: [&str; 14] = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "srcdoc",
        "DOMParser",
        "createContextualFragment",
        "eval(",
        "new Function",
        "javascript:",
        "style=",
        " url(",
        ":url(",
        "@import",
    ];

    /// What of it a file of the page has.
    fn forbidden(text: &str) -> Vec<&'static str> {
        let mut found: Vec<_> = FORBIDDEN.into_iter().filter(|it| text.contains(it)).collect();
        // The name space of drawings is a name, not an address that is asked.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        found.extend(["http://", "https://"].into_iter().filter(|it| text.contains(it)));
        found
    }

    #[test]
    fn no_file_of_the_page_can_make_markup_of_a_text_or_ask_anybody_else() {
        for asset in &ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            assert_eq!(forbidden(text), [""; 0], "{}", asset.path);
        }
        assert_eq!(forbidden("a.innerHTML = b; fetch('https://x')"), ["innerHTML", "https://"]);
        let html = std::str::from_utf8(Asset::find("/").unwrap().bytes).unwrap();
        assert!(!html.contains(" on") && html.matches("<script").count() == 1, "a handler inline");
    }

    #[test]
    fn every_file_of_the_page_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/dashboard");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let name = |asset: &Asset| match asset.path.strip_prefix("/assets/") {
            Some(file) => file.to_owned(),
            None => "index.html".to_owned(),
        };
        let mut embedded: Vec<_> = ASSETS.iter().map(name).collect();
        there.sort_unstable();
        embedded.sort_unstable();
        assert_eq!(embedded, there);
    }
}
