//! `{% generation %}`: the marks of a chat template around the model's answers.

use std::ops::Range;

/// What is written around the model's answers, where a template marks them. Texts with these are refused.
pub(super) const MARKS: [&str; 2] = ["\u{10f0f0}", "\u{10f0f1}"];

/// The filter that writes them.
pub(super) const MARKED: &str = "vxf_generated";

/// Replaces `{% generation %}`, which marks the model's answers, by a filter. Both are blocks, so that white
/// space around them is treated alike.
pub(super) fn with_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut left = source;
    while let Some(start) = left.find("{%") {
        let (before, tag) = left.split_at(start);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        text.push_str(before);
        let (tag, after) = tag.split_at(end);
        let inside = tag.trim_start_matches("{%").trim_end_matches("%}");
        match inside.trim_matches(|c: char| "-+".contains(c) || c.is_whitespace()) {
            "generation" => {
                text.push_str(&tag.replace("generation", &format!("filter {MARKED}")));
            }
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endfilter")),
            _ => text.push_str(tag),
        }
        left = after;
    }
    text.push_str(left);
    text
}

/// The text without marks, and what stood between them.
pub(super) fn without_marks(marked: &str) -> Result<(String, Vec<Range<usize>>), String> {
    let [open, close] = MARKS;
    let (mut text, mut answers) = (String::with_capacity(marked.len()), Vec::new());
    let mut left = marked;
    while let Some((before, rest)) = left.split_once(open) {
        let Some((answer, after)) = rest.split_once(close).filter(|(it, _)| !it.contains(open))
        else {
            return Err("marks answers within answers".to_owned());
        };
        text.push_str(before);
        let start = text.len();
        text.push_str(answer);
        answers.push(start..text.len());
        left = after;
    }
    text.push_str(left);
    match text.contains(close) {
        true => Err("writes the end of an answer that did not begin".to_owned()),
        false => Ok((text, answers)),
    }
}
