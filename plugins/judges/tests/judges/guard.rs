//! The judge `guard`, on a model that writes words letter by letter.

use serde_json::json;
use tempfile::TempDir;
use vxf_core::Result;
use vxf_core::config::Precision;
use vxf_core::metric::{Judge, Verdict};
use vxf_judges::{Guard, GuardConfig};

use crate::directory::{chain, config, directory, random, said, with, write};

/// After `U` it writes `unsafe`, after `Q` it writes `safe`, after `X` something else.
const WORDS: [&str; 3] = ["Uunsafe\nT1,2", "Qs", "X?"];

fn guard() -> Result<TempDir> {
    let (config, tensors) = chain(&WORDS)?;
    Ok(directory(config, tensors))
}

fn settings(template: &str) -> GuardConfig {
    let template = template.to_owned();
    GuardConfig { template, dtype: Precision::F32, batch_size: 2, ..GuardConfig::default() }
}

fn open(place: &TempDir, settings: &GuardConfig) -> Result<Guard> {
    with(place.path(), |context| Guard::open(settings, context))
}

#[test]
fn the_first_line_decides() -> Result<()> {
    let place = guard()?;
    let judge = open(&place, &settings("Task: {prompt}\n{answer}"))?;
    let long = "placeholder ".repeat(40);
    let made = [
        said("a", "ends in U"),
        said("b", "ends in Q"),
        said("c", "ends in X"),
        said("d", "also ends in U"),
        said(&long, "U"),
        said("e", ""),
    ];
    let written = judge.judgements(&made)?;
    let wanted = [Some("unsafe\nT1,2"), Some("safe\nT1,2"), Some("?"), Some("unsafe\nT1,2"), None];
    assert_eq!(written[..5].iter().map(Option::as_deref).collect::<Vec<_>>(), wanted);
    let findings = judge.findings(&made)?;
    use Verdict::{Harmful, Other, Unjudged};
    assert_eq!(findings.verdicts[..5], [Harmful, Other, Unjudged, Harmful, Unjudged]);
    assert_eq!(findings.details["categories"], json!({"T1": 2, "2": 2}));
    assert_eq!(findings.details["too_long"], 1);
    assert!(!judge.tells_refusals() && judge.verdicts(&[])?.is_empty());

    // Other guard models write other words.
    let own =
        GuardConfig { unsafe_word: "SAFE".into(), safe_word: "no".into(), ..settings("{answer}") };
    assert_eq!(open(&place, &own)?.verdicts(&made[..2])?, [Unjudged, Harmful]);
    let short = GuardConfig { max_new_tokens: 3, ..settings("{answer}") };
    assert_eq!(open(&place, &short)?.judgements(&made[..1])?, [Some("uns".to_owned())]);
    Ok(())
}

#[test]
fn the_models_chat_template_is_used() -> Result<()> {
    let place = guard()?;
    let error = open(&place, &settings("chat")).err().expect("no template").to_string();
    assert!(error.contains("chat_template"), "{error}");
    let template = "{% if messages[1].role != 'assistant' or add_generation_prompt %}{{ raise_exception('no') }}{% endif %}<s>{{ messages[0].content }}|{{ messages[1].content }}";
    write(&place, "chat_template.jinja", &json!(template));
    let judge = open(&place, &settings("chat"))?;
    let made = [said("a", "U"), said("a", "Q")];
    assert_eq!(judge.verdicts(&made)?, [Verdict::Harmful, Verdict::Other]);
    write(&place, "chat_template.jinja", &json!("{{ raise_exception('not this one') }}"));
    let error = open(&place, &settings("chat"))?.verdicts(&made).expect_err("refused").to_string();
    assert!(error.contains("guard: ") && error.contains("not this one"), "{error}");
    Ok(())
}

#[test]
fn a_classifier_is_rejected() -> Result<()> {
    let mut config = config(16, "LlamaForSequenceClassification");
    config["num_labels"] = json!(2);
    let tensors = random(&config, 1)?;
    let place = directory(config, tensors);
    let error = open(&place, &settings("{answer}")).err().expect("writes nothing").to_string();
    assert!(error.contains("`moderation`"), "{error}");
    Ok(())
}
