//! HTML, taken apart as far as tests need it: whether every tag is closed, and what stands in it.
//!
//! Must not: forgive what a browser would. What is written must be read the same by everyone.

/// Elements that have no end.
const VOID: [&str; 5] = ["br", "wbr", "link", "meta", "img"];

/// What is in a page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Every element's name, in order.
    pub(crate) elements: Vec<String>,
    /// Every attribute with its value.
    pub(crate) attributes: Vec<(String, String)>,
    /// All text between tags, a line for each piece.
    pub(crate) text: String,
}

/// Takes a page apart. Fails where a tag is not closed, or closed by another, or an attribute is not quoted.
pub(crate) fn taken_apart(html: &str) -> Page {
    let mut page = Page::default();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("no doctype");
    let mut open: Vec<String> = Vec::new();
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(!text.contains('>'), "a bare > in {text:?}");
        if !text.trim().is_empty() {
            page.text.push_str(&unescaped(text));
            page.text.push('\n');
        }
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('/') {
            let (name, behind) = after.split_once('>').expect("an end tag without its end");
            assert_eq!(open.pop().as_deref(), Some(name), "closed by another, before {behind:.60}");
            rest = behind;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).expect("a tag without its end");
        let name = &rest[..end];
        assert!(!name.is_empty(), "no tag: <{rest:.40}");
        rest = attributes(&rest[end..], &mut page.attributes);
        page.elements.push(name.to_owned());
        if name == "style" {
            let (_, behind) = rest.split_once("</style>").expect("a style without its end");
            rest = behind;
        } else if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert_eq!((open, rest.trim()), (Vec::new(), ""), "left over");
    page
}

/// Reads attributes up to the end of the tag.
fn attributes<'h>(mut rest: &'h str, found: &mut Vec<(String, String)>) -> &'h str {
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('>') {
            return behind;
        }
        let end = rest.find(['=', '>', ' ']).expect("a tag without its end");
        let name = &rest[..end];
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-:".contains(c)), "attribute {name:?}");
        let value = rest[end..].strip_prefix("=\"").unwrap_or_else(|| panic!("{name} has no quoted value"));
        let (value, behind) = value.split_once('"').expect("a value without its end");
        assert!(!value.contains(['<', '>']), "{name}: {value:?}");
        found.push((name.to_owned(), unescaped(value)));
        rest = behind;
    }
}

fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    plain.replace("&amp;", "&")
}
