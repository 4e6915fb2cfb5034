//! A report's JSON as serde_json's own pretty form has it, faster.
//!
//! Of a report of thousands of groups every second byte is a blank before a field: serde_json writes them two by two, here
//! a line's go in one piece. Promises: byte for byte what `serde_json::to_writer_pretty` writes, but for [`Line`].

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// Writes a value.
pub(super) fn write(out: &mut impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Pretty::default()))
}

/// JSON that is written already, as one line; half a report are such.
pub(super) struct Line<'l>(pub(super) &'l [u8]);

impl Serialize for Line<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// What is before a value: a comma, where it is not the first, a new line, and blanks.
const LINE: &[u8] = b",\n                                        ";

#[derive(Default)]
struct Pretty {
    depth: usize,
    /// Whether what is being written has any value yet.
    has_value: bool,
}

impl Pretty {
    fn line<W: ?Sized + Write>(&self, out: &mut W, comma: bool) -> io::Result<()> {
        let end = 2 + 2 * self.depth;
        match LINE.get(usize::from(!comma)..end) {
            Some(line) => out.write_all(line),
            None => {
                out.write_all(LINE.get(usize::from(!comma)..).unwrap_or_default())?;
                (LINE.len()..end).try_for_each(|_| out.write_all(b" "))
            }
        }
    }

    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.line(out, false)?;
        }
        out.write_all(bracket)
    }
}

impl Formatter for Pretty {
    /// Bytes are JSON already: a [`Line`].
    fn write_byte_array<W: ?Sized + Write>(&mut self, out: &mut W, value: &[u8]) -> io::Result<()> {
        out.write_all(value)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.line(out, !first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.line(out, !first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Line;
    use serde_json::{Value, json};

    #[test]
    fn a_line_is_left_as_it_is() {
        let mut out = Vec::new();
        super::write(&mut out, &[Line(br#"{"host":"a\n"}"#), Line(b"[ 1 ]")]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "[\n  {\"host\":\"a\\n\"},\n  [ 1 ]\n]");
    }

    #[test]
    fn serde_json_writes_the_same() {
        let deep = (0..60).fold(json!("\u{e9}\"\n"), |value, level| match level % 2 {
            0 => json!([value, level]),
            _ => json!({"a": value, "b": level}),
        });
        let values =
            [json!([]), json!({}), json!([[], {}]), json!({"a": {}, "b": [], "c": [1.5, null]}), deep];
        for value in values.iter().chain([&Value::from(values.to_vec())]) {
            let mut out = Vec::new();
            super::write(&mut out, value).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string_pretty(value).unwrap());
        }
    }
}
