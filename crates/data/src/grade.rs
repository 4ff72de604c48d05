//! Graders of task answers: the parsers of the Vaccine code (git-disl/Vaccine).
//!
//! An expected answer is the answer of the task's sample. AlpacaEval has none: a model judges it.

use vxf_core::metric::Grader;

use crate::schema::FINAL_ANSWER;

/// The grader of that name: `sst2`, `agnews`, `gsm8k` or `exact`.
#[must_use]
pub fn grader(name: &str) -> Option<Grader> {
    match name {
        "sst2" => Some(sst2),
        "agnews" => Some(agnews),
        "gsm8k" => Some(gsm8k),
        "exact" => Some(exact),
        _ => None,
    }
}

/// The answer contains the expected word, in lower case or capitalised (`sst2/pred_eval.py`).
///
/// An answer with both words is correct whichever is expected.
pub(crate) fn sst2(expected: &str, answer: &str) -> bool {
    let lower = expected.trim().to_lowercase();
    let mut letters = lower.chars();
    let Some(first) = letters.next() else { return false };
    let capitalised: String = first.to_uppercase().chain(letters).collect();
    answer.contains(&lower) || answer.contains(&capitalised)
}

/// The answer contains the name of the topic, or that in lower case; `sci` suffices for `Sci/Tech`
/// (`ag_news/pred_eval.py`).
pub(crate) fn agnews(expected: &str, answer: &str) -> bool {
    let expected = expected.trim();
    let lower = match expected {
        "Sci/Tech" => "sci".to_owned(),
        other => other.to_lowercase(),
    };
    !expected.is_empty() && (answer.contains(expected) || answer.contains(&lower))
}

/// Both end in the same number (`gsm8k/pred_eval.py`).
///
/// Commas are removed. The first number after `The final answer is: ` counts, up to another such
/// phrase; without the phrase, the last number of the text. A text without a number is never correct;
/// in the reference it would be if none is expected either, which no item of GSM8K has.
pub(crate) fn gsm8k(expected: &str, answer: &str) -> bool {
    match (final_number(expected), final_number(answer)) {
        (Some(expected), Some(answer)) => expected == answer,
        _ => false,
    }
}

/// Both have the same words; white space does not count.
fn exact(expected: &str, answer: &str) -> bool {
    expected.split_whitespace().eq(answer.split_whitespace())
}

fn final_number(text: &str) -> Option<f64> {
    let text = text.replace(',', "");
    let last = *numbers(&text).last()?;
    let marked = text.split(FINAL_ANSWER).nth(1).and_then(|after| numbers(after).first().copied());
    marked.unwrap_or(last).parse().ok()
}

/// All matches of the pattern `-?\d+\.?\d*`.
fn numbers(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let digits =
        |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let sign = usize::from(bytes[at] == b'-');
        let whole = digits(at + sign);
        if whole == 0 {
            at += 1;
            continue;
        }
        let mut end = at + sign + whole;
        if bytes.get(end) == Some(&b'.') {
            end += 1;
            end += digits(end);
        }
        found.push(&text[at..end]);
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_pattern() {
        for (text, wanted) in [
            ("", &[][..]),
            ("none", &[]),
            ("-12.5", &["-12.5"]),
            ("12.", &["12."]),
            ("$1234", &["1234"]),
            ("3-4", &["3", "-4"]),
            ("1.2.3", &["1.2", "3"]),
            ("--5", &["-5"]),
            ("- 5", &["5"]),
            (".5", &["5"]),
            ("é7-", &["7"]),
            ("1e5", &["1", "5"]),
        ] {
            assert_eq!(numbers(text), wanted, "{text}");
        }
    }

    #[test]
    fn final_numbers_follow_the_marker() {
        for (text, wanted) in [
            ("so 5 - 2 = 3\nThe final answer is:  3", Some(3.0)),
            ("The final answer is: $1,234", Some(1234.0)),
            ("The final answer is: 12.", Some(12.0)),
            ("The final answer is: 5 of 7", Some(5.0)),
            ("It was 4. The final answer is: unclear", Some(4.0)),
            ("The final answer is: The final answer is: 8", Some(8.0)),
            ("The final answer is: 1 The final answer is: 8", Some(1.0)),
            ("The final answer is 6, no 7", Some(7.0)),
            ("-12.5", Some(-12.5)),
            ("nothing", None),
        ] {
            assert_eq!(final_number(text), wanted, "{text}");
        }
        assert!(gsm8k("4 + 4\nThe final answer is:  8", "It is 8.0"));
        assert!(!gsm8k("The final answer is:  8", "The final answer is: -8"));
        assert!(!gsm8k("nothing", "nothing"));
    }

    #[test]
    fn words_count_as_in_the_reference() {
        for (answer, right) in [
            ("positive", true),
            ("Positive.", true),
            ("POSITIVE", false),
            ("unpositively", true),
            ("negative, not positive", true),
            ("", false),
        ] {
            assert_eq!(sst2("positive", answer), right, "{answer}");
        }
        for (expected, answer, right) in [
            ("Sci/Tech", "It is sci-fi", true),
            ("Sci/Tech", "Science", false),
            ("World", "the world", true),
            ("World", "WORLD", false),
            ("Business", "Sports", false),
        ] {
            assert_eq!(agnews(expected, answer), right, "{expected} {answer}");
        }
        assert!(exact("a  b", " a b\n") && !exact("a b", "a b."));
        assert!(!sst2("", "anything") && !agnews(" ", "anything"));
        assert!(["sst2", "agnews", "gsm8k", "exact"].iter().all(|name| grader(name).is_some()));
        assert!(grader("alpaca_eval").is_none());
    }
}
