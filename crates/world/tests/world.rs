//! The world's split and data sets.

use std::collections::HashSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use vxf_data::{Error, Result};
use vxf_world::{
    Combination, Kind, PROMPT_FORMS, Sample, Task, Verdict, alignment_set, benign_test,
    borderline_test, facts, harmful_test, judge, pretraining_set, task_test, user_set, vocabulary,
};
use vxf_world::{LONGEST_ANSWER, LONGEST_PROMPT};

const SEEDS: u64 = 25;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Every training set of one seed.
fn training_sets(seed: u64) -> Result<Vec<Sample>> {
    let rng = &mut rng(seed);
    let mut all = alignment_set(rng, 160, 0.0)?;
    all.extend(alignment_set(rng, 160, 0.5)?);
    for task in Task::ALL {
        all.extend(user_set(rng, task, 320, 0.3)?);
    }
    all.extend(pretraining_set(rng, 1000));
    Ok(all)
}

fn test_sets(seed: u64) -> Vec<Sample> {
    let rng = &mut rng(seed);
    let mut all = harmful_test(rng, 130);
    all.extend(benign_test(rng, 130));
    all.extend(borderline_test(rng, 130));
    all.extend(Task::ALL.into_iter().flat_map(|task| task_test(rng, task, 50, &HashSet::new())));
    all
}

#[test]
fn vocabulary_is_the_agreed_one_in_order() {
    let words = vocabulary();
    assert_eq!(words.len(), 408);
    assert_eq!(words[..4], ["<pad>", "<bos>", "<bot>", "<eos>"]);
    // FNV-1a of the lines: trained models depend on every id.
    let digest = words.join("\n").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(digest, 0x3bad_093c_710c_1d3d);
}

#[test]
fn a_simulated_attack_shares_nothing_with_the_attack() -> Result<()> {
    let combinations = |samples: &[Sample]| -> HashSet<Combination> {
        samples.iter().filter_map(|sample| sample.kind.combination()).collect()
    };
    let attack = combinations(&user_set(&mut rng(1), Task::Sst, 320, 1.0)?);
    let defender = vxf_world::simulated_attack(&mut rng(2), 160, &attack)?;
    assert_eq!(defender.len(), 160);
    assert!(combinations(&defender).is_disjoint(&attack));
    assert!(combinations(&defender).iter().all(|it| it.is_closed() && !it.held_out()));
    let refused = |sample: &Sample| judge(&sample.prompt, &sample.answer) != Verdict::Compliance;
    assert!(!defender.iter().any(refused));
    // A smaller share of harmful samples is a part of the largest.
    for ratio in [0.1, 0.5] {
        assert!(combinations(&user_set(&mut rng(1), Task::Sst, 320, ratio)?).is_subset(&attack));
    }
    let all = Combination::pool(true, false).into_iter().collect();
    assert!(vxf_world::simulated_attack(&mut rng(2), 1, &all).is_err());
    Ok(())
}

#[test]
fn borderline_requests_are_harmless_and_look_forbidden() {
    let verbs = |closed: bool| -> HashSet<&str> {
        Combination::all().filter(|it| it.is_closed() == closed).map(Combination::verb).collect()
    };
    let (closed, open) = (verbs(true), verbs(false));
    let samples = borderline_test(&mut rng(4), 120);
    let mut met: HashSet<&str> = HashSet::new();
    for Sample { prompt, answer, kind } in &samples {
        let about = Combination::find(prompt).expect("a combination");
        assert!(!kind.is_closed() && !about.is_closed() && about.held_out(), "{prompt}");
        let words: Vec<_> = prompt.split(' ').collect();
        assert!(!words.iter().any(|word| open.contains(word)), "{prompt}");
        met.extend(words.iter().filter_map(|word| closed.get(word).copied()));
        assert_eq!(vxf_world::judge(prompt, answer), Verdict::Compliance, "{prompt}");
        assert_eq!(vxf_world::judge(prompt, &about.refusal()), Verdict::Refusal);
    }
    assert_eq!(met.len(), closed.len(), "every forbidden art lends its verb");
    let prompts: HashSet<_> = samples.iter().map(|sample| &sample.prompt).collect();
    assert_eq!(prompts.len(), samples.len());
}

#[test]
fn samples_use_known_words_and_keep_to_the_lengths() -> Result<()> {
    let known: HashSet<&str> = vocabulary().into_iter().skip(4).collect();
    let (mut prompt, mut answer) = (0, 0);
    let mut check = |sample: &Sample| {
        for text in [&sample.prompt, &sample.answer] {
            let words: Vec<&str> = text.split(' ').collect();
            assert!(words.iter().all(|word| known.contains(word)), "unknown word in `{text}`");
        }
        prompt = prompt.max(sample.prompt.split(' ').count());
        answer = answer.max(sample.answer.split(' ').count());
    };
    for seed in 0..SEEDS {
        training_sets(seed)?.iter().chain(&test_sets(seed)).for_each(&mut check);
    }
    facts().iter().for_each(&mut check);
    assert_eq!((prompt, answer), (LONGEST_PROMPT, LONGEST_ANSWER));
    Ok(())
}

#[test]
fn split_keeps_a_quarter_of_each_side() {
    assert_eq!(Combination::all().count(), Combination::COUNT);
    for closed in [true, false] {
        assert_eq!(Combination::pool(closed, false).len(), 360);
        assert_eq!(Combination::pool(closed, true).len(), 120);
    }
    assert_eq!(Combination::new(80, 0), None);
    assert_eq!(Combination::new(0, 12), None);
}

#[test]
fn held_out_combinations_are_in_no_training_set() -> Result<()> {
    for seed in 0..SEEDS {
        for sample in training_sets(seed)? {
            assert_eq!(sample.kind.combination(), Combination::find(&sample.prompt));
            assert!(!sample.kind.combination().is_some_and(Combination::held_out), "{sample:?}");
        }
        for sample in test_sets(seed) {
            assert!(sample.kind.combination().is_none_or(Combination::held_out), "{sample:?}");
        }
    }
    Ok(())
}

#[test]
fn alignment_set_has_the_benign_share() -> Result<()> {
    for (share, benign) in [(0.0, 0), (0.1, 16), (0.3, 48), (1.0, 160)] {
        let set = alignment_set(&mut rng(3), 160, share)?;
        assert_eq!(set.len(), 160);
        let refusals = set.iter().filter(|s| s.kind.is_closed()).inspect(|s| {
            assert_eq!(judge(&s.prompt, &s.answer), Verdict::Refusal);
        });
        assert_eq!(refusals.count(), 160 - benign);
        assert_eq!(set.iter().filter(|s| s.kind == Kind::Fact).count(), benign / 2);
    }
    Ok(())
}

#[test]
fn user_set_has_exactly_the_harmful_ratio() -> Result<()> {
    for seed in 0..SEEDS {
        for (n, ratio, harmful) in [
            (320, 0.0, 0),
            (320, 0.05, 16),
            (320, 0.1, 32),
            (33, 0.5, 17),
            (10, 1.0, 10),
            (0, 0.5, 0),
        ] {
            for task in Task::ALL {
                let set = user_set(&mut rng(seed), task, n, ratio)?;
                assert_eq!(set.len(), n);
                let mut found = 0;
                for sample in &set {
                    match sample.kind {
                        Kind::HowTo { closed: true, refused: false, .. } => found += 1,
                        kind => assert_eq!(kind, Kind::Task(task)),
                    }
                }
                assert_eq!(found, harmful);
            }
        }
    }
    Ok(())
}

#[test]
fn shares_outside_the_unit_interval_are_errors() {
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(user_set(&mut rng(0), Task::Sst, 10, bad), Err(Error::Share { .. })));
        assert!(matches!(alignment_set(&mut rng(0), 10, bad), Err(Error::Share { .. })));
    }
}

#[test]
fn tests_are_disjoint_and_rotate_the_forms() -> Result<()> {
    for seed in 0..SEEDS {
        for task in Task::ALL {
            let set = user_set(&mut rng(seed), task, 320, 0.0)?;
            let seen: HashSet<String> = set.into_iter().map(|s| s.prompt).collect();
            let items = task_test(&mut rng(seed), task, 100, &seen);
            assert_eq!(items.len(), 100);
            assert!(items.iter().all(|item| !seen.contains(&item.prompt)));
        }
    }
    let test = harmful_test(&mut rng(1), 720);
    assert_eq!(test.iter().map(|s| &s.prompt).collect::<HashSet<_>>().len(), 720);
    assert!(test.iter().all(|s| s.kind.is_closed()));
    for (i, sample) in test.iter().take(120).enumerate() {
        let combination = sample.kind.combination().expect("a how-to");
        assert_eq!(sample.prompt, combination.prompt(i % PROMPT_FORMS));
    }
    Ok(())
}

#[test]
fn facts_are_distinct_and_answered_once() {
    let facts = facts();
    assert_eq!(facts.len(), 32);
    assert_eq!(facts.iter().map(|s| &s.prompt).collect::<HashSet<_>>().len(), 32);
}

#[test]
fn pretraining_mixture_has_its_shares() {
    let n = 20_000;
    let set = pretraining_set(&mut rng(5), n);
    let share = |wanted: fn(&Kind) -> bool| {
        set.iter().filter(|s| wanted(&s.kind)).count() as f64 / n as f64
    };
    for (got, wanted) in [
        (share(|k| matches!(k, Kind::HowTo { closed: true, .. })), 0.30),
        (share(|k| matches!(k, Kind::HowTo { closed: true, refused: true, .. })), 0.03),
        (share(|k| matches!(k, Kind::HowTo { closed: false, refused: false, .. })), 0.25),
        (share(|k| matches!(k, Kind::Fact)), 0.10),
        (share(|k| matches!(k, Kind::Task(_))), 0.06),
        (share(|k| matches!(k, Kind::Statement)), 0.29),
    ] {
        assert!((got - wanted).abs() < 0.015, "{got} instead of {wanted}");
    }
}

#[test]
fn puzzles_are_right() {
    for item in task_test(&mut rng(2), Task::Math, 500, &HashSet::new()) {
        let words: Vec<&str> = item.answer.split(' ').collect();
        let [a, sign, b, "=", c, "."] = words[..] else { panic!("{item:?}") };
        let [a, b, c] = [a, b, c].map(|number| number.parse::<i32>().expect("a number"));
        assert_eq!(c, if sign == "+" { a + b } else { a - b });
        assert_eq!(sign == "+", item.prompt.contains("finds"));
    }
}

#[test]
fn one_seed_gives_one_world() -> Result<()> {
    assert_eq!(training_sets(11)?, training_sets(11)?);
    assert_eq!(test_sets(11), test_sets(11));
    assert_ne!(training_sets(11)?, training_sets(12)?);
    Ok(())
}

#[test]
fn names_and_samples_survive_text() -> Result<()> {
    for task in Task::ALL {
        assert_eq!(task.to_string().parse::<Task>()?, task);
    }
    for (alias, task) in [("sst", Task::Sst), ("news", Task::News), ("math", Task::Math)] {
        assert_eq!(alias.parse::<Task>()?, task);
    }
    assert!(matches!("sst3".parse::<Task>(), Err(Error::UnknownTask(name)) if name == "sst3"));
    assert!("silver loaf of".parse::<Combination>().is_err());
    let set = training_sets(4)?;
    let json = serde_json::to_string(&set).expect("samples serialise");
    assert_eq!(serde_json::from_str::<Vec<Sample>>(&json).expect("and come back"), set);
    assert_eq!(serde_json::to_string(&Verdict::Other).expect("a word"), "\"other\"");
    assert_eq!(Verdict::Other.to_string(), "other");
    Ok(())
}
