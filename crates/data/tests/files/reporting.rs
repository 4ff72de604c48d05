//! The data report.

use serde_json::json;
use vxf_core::Example;
use vxf_data::{Ask, DataReport, Lengths, Sample, SetReport, Use};

use crate::common::{assert_says, directory, lines, read, read_as, row, sample, source};

fn example(tokens: usize, prompt: usize) -> Example {
    Example { tokens: vec![1; tokens], prompt, ..Example::default() }
}

fn samples(numbers: impl IntoIterator<Item = usize>) -> Vec<Sample> {
    numbers.into_iter().map(sample).collect()
}

#[test]
fn lengths_are_those_of_the_sorted_examples() {
    let hundred: Vec<Example> = (1..=100).rev().map(|tokens| example(tokens, 1)).collect();
    let expected = Lengths { min: 1, median: 51, p95: 95, max: 100, tokens: 5050, labelled: 4950 };
    assert_eq!(Lengths::of(&hundred), Some(expected));
    let one = Lengths { min: 7, median: 7, p95: 7, max: 7, tokens: 7, labelled: 4 };
    assert_eq!(Lengths::of(&[example(7, 3)]), Some(one));
    assert_eq!(Lengths::of(&[]), None);
}

#[test]
fn sets_are_counted_and_compared() {
    let directory = directory(&[("a.jsonl", &lines((0..40).map(row)))]);
    let at = directory.path().join("a.jsonl");
    let harmful =
        read(&source(&at, json!({"filter": {"is_safe": false}, "take": 10}))).expect("10");
    let tests =
        read_as(&source(&at, json!({"skip": 10, "take": 10})), Use::Asked, false).expect("10");
    let mut alignment = samples(0..5);
    alignment
        .push(Sample { ask: Ask::instruction("Placeholder   REQUEST, 0!"), answer: "".into() });
    alignment.push(sample(4));
    let mixed = samples([1, 2, 4, 11, 50]);

    let sets = vec![
        (SetReport::of("alignment", &alignment, None), &alignment[..]),
        (SetReport::of("harmful", &harmful.samples, Some(&harmful)), &harmful.samples[..]),
        (
            SetReport::of("user at p = 0.6", &mixed, None)
                .made_of(&["harmful", "user"])
                .with_examples(&[example(9, 5), example(4, 2)], 1, 3),
            &mixed[..],
        ),
        (SetReport::of("harmful_test", &tests.samples, Some(&tests)), &tests.samples[..]),
    ];
    let report = DataReport::of(sets);
    let [aligned, attack, user, test] = &report.sets[..] else { panic!("four sets") };
    assert_eq!(
        (aligned.samples, aligned.repeated, aligned.identical, aligned.unanswered),
        (7, 2, 1, 1)
    );
    assert_eq!((attack.read, attack.filtered, attack.samples), (15, 5, 10));
    assert_eq!((user.truncated, user.unlabelled), (1, 3));
    assert!(test.test && !attack.test);

    let pairs: Vec<_> = report
        .overlaps
        .iter()
        .map(|each| (each.first.as_str(), each.second.as_str(), each.of_first, each.of_second))
        .collect();
    // alignment has questions 0 to 4 (0 and 4 twice); harmful those up to 14 that 3 does not divide.
    let expected = [
        ("alignment", "harmful", 4, 3),
        ("alignment", "user at p = 0.6", 4, 3),
        ("harmful", "harmful_test", 4, 4),
        ("user at p = 0.6", "harmful_test", 1, 1),
    ];
    assert_eq!(pairs, expected);

    let warnings = report.warnings.join("\n");
    assert_says(
        &warnings,
        &["1 of the 10 questions of harmful_test also occur in user at p = 0.6"],
    );
    assert_says(
        &warnings,
        &["alignment: 1 of 7 samples have an empty answer", "1 of 5 samples are truncated"],
    );
    assert!(!warnings.contains("occur in harmful:"), "{warnings}");
    assert_eq!(report.losses().len(), 2);
    let text = report.to_string();
    assert_says(
        &text,
        &["schema", "prompt_completion", "13 (6 labelled)", "a.jsonl", "share questions"],
    );
    let json = serde_json::to_string(&report).expect("json");
    assert_eq!(serde_json::from_str::<DataReport>(&json).expect("a report"), report);
}

/// A defence that has seen part of the attack is told, whatever the order of the sets.
#[test]
fn defences_that_have_seen_the_attack_are_told() {
    let (defence, attack) = (samples([1, 2, 3]), samples([3, 1, 4, 5]));
    let sets = vec![
        (SetReport::of("simulated", &defence, None), &defence[..]),
        (SetReport::of("harmful", &attack, None), &attack[..]),
    ];
    for sets in [sets.clone(), sets.into_iter().rev().collect()] {
        let report = DataReport::of(sets);
        let told = report.seen_attack().expect("two are shared");
        assert_says(
            &told,
            &["2 of the 4 questions of harmful also occur in simulated (3 samples)"],
        );
        assert_eq!(report.warnings, [told]);
    }
    let other = samples([7]);
    let sets = vec![
        (SetReport::of("simulated", &other, None), &other[..]),
        (SetReport::of("harmful", &attack, None), &attack[..]),
    ];
    assert_eq!(DataReport::of(sets).seen_attack(), None);
}

#[test]
fn plain_text_has_no_questions() {
    let text = |answer: &str| Sample { ask: Ask::Nothing, answer: answer.into() };
    let one = [text("a"), text("b"), text("a")];
    let report = SetReport::of("one", &one, None);
    assert_eq!((report.repeated, report.identical), (0, 1));
    let sets = vec![(report, &one[..]), (SetReport::of("two", &one, None), &one[..])];
    assert!(DataReport::of(sets).overlaps.is_empty());
}

/// Comparing all pairs of so many rows would take hours.
#[test]
fn a_hundred_thousand_rows_are_compared_by_digest() {
    let many = samples(0..100_000);
    let sets = ["a", "b", "c"].map(|name| (SetReport::of(name, &many, None), &many[..]));
    let report = DataReport::of(sets.into());
    assert_eq!(report.overlaps.len(), 3);
}
