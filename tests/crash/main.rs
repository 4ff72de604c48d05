//! Nothing is lost by `kill -9`.
//!
//! Experiments with every built-in defence and all stages are killed at random moments, half of them
//! during a write, and resumed until they are done. Their files are compared byte by byte with those of
//! undisturbed experiments. For a larger number of kills:
//!
//! ```sh
//! VXF_CRASH_KILLS=1000 cargo test --release -p vxf --test crash -- --nocapture kills
//! ```

mod experiment;
mod killer;
mod memory;

use std::collections::BTreeMap;

use experiment::{Scenario, differences, outcome};
use killer::{Aim, Killer};

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

/// The same binary, recipe, seed and number of threads gives the same bytes, three times.
#[test]
fn repeated_runs_are_identical() {
    let place = tempfile::tempdir().expect("a temporary directory");
    for scenario in Scenario::all() {
        let run = |name: &str| {
            let root = place.path().join(format!("{}-{name}", scenario.name));
            scenario.finish(&root);
            outcome(&root)
        };
        let first = run("first");
        assert!(first.len() >= 3 * scenario.runs, "{}: {} files", scenario.name, first.len());
        for name in ["second", "third"] {
            assert_eq!(differences(&first, &run(name)), [""; 0], "{}", scenario.name);
        }
    }
}

/// An experiment that is killed at random moments and resumed ends in the same bytes as an undisturbed
/// one.
#[test]
fn kills_change_nothing() {
    let (wanted, seed) = (number("VXF_CRASH_KILLS", 50), number("VXF_CRASH_SEED", 1));
    let place = tempfile::tempdir().expect("a temporary directory");
    let whole: BTreeMap<&str, _> = Scenario::all()
        .into_iter()
        .map(|scenario| {
            let root = place.path().join(format!("{}-whole", scenario.name));
            scenario.finish(&root);
            (scenario.name, outcome(&root))
        })
        .collect();

    let mut killer = Killer::new(seed);
    let (mut finished, mut mismatches) = (0, Vec::new());
    for round in 0.. {
        let enough = killer.tally.kills >= wanted;
        if enough && round >= Scenario::all().len() {
            break;
        }
        let scenario = &Scenario::all()[round % Scenario::all().len()];
        let root = place.path().join(format!("{}-{round}", scenario.name));
        // At least a third of the kills must hit a write, so half of them wait for one. A start follows at
        // once, since an experiment may not live to see a fourth.
        let mut aims = [Aim::Writing, Aim::Start, Aim::Writing, Aim::Anywhere].into_iter().cycle();
        while killer.tally.kills < wanted {
            if killer.strike(scenario, &root, aims.next().unwrap_or(Aim::Anywhere)) {
                break;
            }
        }
        scenario.finish(&root);
        finished += 1;
        let found = differences(&whole[scenario.name], &outcome(&root));
        mismatches
            .extend(found.into_iter().map(|what| format!("{} {round}: {what}", scenario.name)));
        std::fs::remove_dir_all(&root).expect("removable");
    }
    let tally = &killer.tally;
    eprintln!(
        "{} kills (seed {seed}), {} of them while writing and {} while resuming; {} steps resumed \
         from checkpoints; {finished} experiments finished, {} mismatches",
        tally.kills,
        tally.writing,
        tally.resuming,
        tally.resumed_steps,
        mismatches.len()
    );
    assert_eq!(mismatches, [""; 0]);
    assert!(tally.kills >= wanted, "{tally:?}");
    assert!(3 * tally.writing >= tally.kills, "too few hit a write: {tally:?}");
    assert!(tally.resuming > 0 && tally.resumed_steps > 0, "none hit a resume: {tally:?}");
}

/// Ten thousand steps take no more memory at the end than near the beginning.
#[test]
fn memory_stays_flat() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let series = memory::series(&Scenario::long(), &place.path().join("long"));
    let tenth = series.len() / 10;
    assert!(tenth >= 10, "{} samples", series.len());
    let (early, late) =
        (memory::median(&series[tenth..2 * tenth]), memory::median(&series[9 * tenth..]));
    eprintln!("10,000 steps: {early} KiB near the beginning, {late} KiB at the end");
    assert!(late <= early * 105 / 100, "{early} KiB, then {late} KiB");
}
