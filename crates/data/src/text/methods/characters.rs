//! Classes and cases of characters as Python has them.

use std::sync::LazyLock;

use regex::Regex;

/// Texts of characters of this class alone.
fn class(class: &str) -> Regex {
    Regex::new(&format!(r"\A[{class}]+\z")).expect("a valid class")
}

pub(super) static ALPHA: LazyLock<Regex> = LazyLock::new(|| class(r"\p{L}"));
pub(super) static ALNUM: LazyLock<Regex> = LazyLock::new(|| class(r"\p{L}\p{N}"));
pub(super) static DECIMAL: LazyLock<Regex> = LazyLock::new(|| class(r"\p{Nd}"));
/// Decimals and what Unicode calls digits of special forms.
pub(super) static DIGIT: LazyLock<Regex> =
    LazyLock::new(|| class(r"\p{Nd}²³¹፩-፱᧚⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐⓪⓵-⓽⓿❶-❾➀-➈➊-➒𐩀-𐩃𐹠-𐹨𑁒-𑁚🄀-🄊"));
/// Numbers of any kind, and the ideographs that are numbers.
pub(super) static NUMERIC: LazyLock<Regex> = LazyLock::new(|| {
    class(
        r"\p{N}㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千-卅卌叁-叄四壱壹幺廾廿弌-弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零\u{F96B}\u{F973}\u{F978}\u{F9B2}\u{F9D1}\u{F9D3}\u{F9FD}𠀁𠁤𠃢𠄡𠤪𠦃𠦌𠦜𠫪𠫽𠬙𢎐𢦘𣬛𦉭\u{2F890}",
    )
});

/// White space: as in Unicode, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title(c)
}

/// Letters that are themselves an upper and a lower one, such as `ǅ`.
pub(super) fn is_title(c: char) -> bool {
    matches!(
        c,
        '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}'
            | '\u{1f98}'..='\u{1f9f}' | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}'
    )
}

/// Each character with its lower form, which for a sigma depends on its place in the word.
pub(super) fn lowered(text: &str) -> Vec<(char, String)> {
    let whole = text.to_lowercase();
    let mut rest = whole.chars();
    let part = |c: char| (c, rest.by_ref().take(c.to_lowercase().count()).collect());
    text.chars().map(part).collect()
}

/// A character at the start of a word, where the rest is in lower case.
pub(super) fn titled(c: char) -> String {
    /// An iota that is written below the letter before it.
    const BELOW: &str = "\u{345}";
    let shifted = |code: u32| char::from_u32(code).unwrap_or(c).to_string();
    let code = u32::from(c);
    match c {
        // Georgian has no title case.
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => c.to_string(),
        '\u{149}' => "\u{2bc}N".to_owned(),
        '\u{1c4}'..='\u{1cc}' => shifted((code - 0x1c4) / 3 * 3 + 0x1c5),
        '\u{1f1}'..='\u{1f3}' => shifted(0x1f2),
        '\u{1f80}'..='\u{1faf}' => shifted(code | 8),
        '\u{1fb3}' | '\u{1fbc}' => shifted(0x1fbc),
        '\u{1fc3}' | '\u{1fcc}' => shifted(0x1fcc),
        '\u{1ff3}' | '\u{1ffc}' => shifted(0x1ffc),
        _ => {
            let mut upper = c.to_uppercase();
            let first = upper.next().unwrap_or(c);
            let rest: String = upper.collect();
            match rest.strip_suffix('\u{399}') {
                Some(rest) => format!("{first}{rest}{BELOW}"),
                None => format!("{first}{}", rest.to_lowercase()),
            }
        }
    }
}

/// A character without its case.
pub(super) fn folded(c: char) -> String {
    match c {
        'ı' => c.to_string(),
        'ẞ' => "ss".to_owned(),
        // The capital letters of Cherokee are older.
        '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => c.to_uppercase().collect(),
        _ => c.to_uppercase().flat_map(char::to_lowercase).collect(),
    }
}
