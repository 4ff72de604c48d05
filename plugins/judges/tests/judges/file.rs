//! The judge `file`.

use std::fs;

use vxf_core::Result;
use vxf_core::metric::{Judge, Verdict};
use vxf_judges::{File, FileConfig};

use crate::directory::said;

fn judged(rows: &str, threshold: f64) -> Result<Vec<Verdict>> {
    let place = tempfile::tempdir().expect("writable");
    let path = place.path().join("scores.jsonl");
    fs::write(&path, rows).expect("writable");
    let scores = path.display().to_string();
    let made = ["one", "two", "three", "four", "five"].map(|answer| said("asked", answer));
    File::new(&FileConfig { scores, threshold })?.verdicts(&made)
}

#[test]
fn rows_are_found_by_prompt_and_answer() -> Result<()> {
    use Verdict::{Harmful, Other, Refused, Unjudged};
    let rows = r#"
        {"prompt": "asked", "answer": "one", "flagged": true, "probe": "harmful"}
        {"prompt": "asked", "answer": "two", "score": 3}

        {"prompt": "asked", "answer": "three", "verdict": "refused", "flagged": true}
        {"prompt": "asked", "answer": "four", "flagged": null, "score": null}
        {"prompt": "other", "answer": "five", "flagged": true}
        {"prompt": "asked", "answer": "one", "score": 9, "flagged": null}
    "#;
    assert_eq!(judged(rows, 2.5)?, [Harmful, Harmful, Refused, Unjudged, Unjudged]);
    assert_eq!(judged(rows, 3.0)?, [Harmful, Other, Refused, Unjudged, Unjudged]);
    Ok(())
}

#[test]
fn errors_name_the_line() {
    let two = |second: &str| {
        format!("{{\"prompt\": \"asked\", \"answer\": \"one\", \"flagged\": true}}\n\n{second}")
    };
    for (rows, said) in [
        (
            two(r#"{"prompt": "asked", "answer": "one", "score": 0.1}"#),
            "line 3: says Other, but line 1 says Harmful for the same prompt and answer",
        ),
        (two("{"), "line 3: is not JSON"),
        (two(r#"{"prompt": "asked", "answer": "two", "flag": true}"#), "line 3: needs one of"),
        (two(r#"{"prompt": "asked", "flagged": true}"#), "line 3: missing field `answer`"),
        (two(r#"{"prompt": "asked", "answer": "two", "flagged": 1}"#), "line 3: "),
        (two(r#"{"prompt": "asked", "answer": "two", "verdict": "bad"}"#), "line 3: "),
    ] {
        let error = judged(&rows, 0.5).expect_err(said).to_string();
        assert!(error.contains(said) && error.contains("scores.jsonl"), "{error}");
    }
}

#[test]
fn a_file_can_hold_grades_and_verdicts() -> Result<()> {
    let place = tempfile::tempdir().expect("writable");
    let path = place.path().join("scores.jsonl");
    let rows = r#"
        {"prompt": "asked", "answer": "one", "correct": true}
        {"prompt": "asked", "answer": "two", "correct": false, "flagged": true}
        {"prompt": "asked", "answer": "three", "correct": null}
    "#;
    fs::write(&path, rows).expect("writable");
    let settings = FileConfig { scores: path.display().to_string(), threshold: 0.5 };
    let made = ["one", "two", "three", "four"].map(|answer| said("asked", answer));
    let judge = File::new(&settings)?;
    assert_eq!(judge.grades(&made)?, [Some(true), Some(false), None, None]);
    use Verdict::{Harmful, Unjudged};
    assert_eq!(judge.verdicts(&made)?, [Unjudged, Harmful, Unjudged, Unjudged]);
    let again = rows.to_owned() + r#"{"prompt": "asked", "answer": "one", "correct": false}"#;
    fs::write(&path, again).expect("writable");
    let error = File::new(&settings).expect_err("both right and wrong").to_string();
    assert!(error.contains("line 5") && error.contains("line 2 says true"), "{error}");
    Ok(())
}

#[test]
fn scores_may_come_later() -> Result<()> {
    let place = tempfile::tempdir().expect("writable");
    let path = place.path().join("later.jsonl");
    let settings = FileConfig { scores: path.display().to_string(), threshold: 0.5 };
    let judge = File::new(&settings)?;
    let made = [said("asked", "one")];
    let findings = judge.findings(&made)?;
    assert_eq!(findings.verdicts, [Verdict::Unjudged]);
    let next = findings.details["next"].as_str().expect("what to do");
    assert!(next.contains("generations.jsonl") && next.contains("later.jsonl"), "{next}");
    let row = "{\"prompt\": \"asked\", \"answer\": \"one\", \"flagged\": false}\n";
    fs::write(&path, row).expect("writable");
    let findings = judge.findings(&made)?;
    assert_eq!(findings.verdicts, [Verdict::Other]);
    assert!(!findings.details.contains_key("next") && !judge.tells_refusals());
    assert!(
        File::new(&FileConfig { scores: place.path().display().to_string(), ..settings }).is_err()
    );
    Ok(())
}
