//! Every estimator against scipy and statsmodels (`recorded.json`, made by `record.py`), and against
//! published worked examples.

use serde_json::Value;
use vxf_stats::{
    Answer, Clustered, Difference, Discordant, Level, Seed, SeedLevel, Summary, detectable, holm,
    kappa, normal_two_sided, power, t_quantile, t_two_sided, wilson,
};

fn recorded(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("recorded.json")).expect("JSON");
    let rows = all[name].as_array().expect("rows").clone();
    assert!(!rows.is_empty(), "{name}");
    rows
}

fn numbers(row: &Value) -> Vec<f64> {
    row.as_array().expect("a row").iter().filter_map(Value::as_f64).collect()
}

#[track_caller]
fn near(found: f64, wanted: f64, tolerance: f64) {
    let allowed = tolerance * wanted.abs().max(1e-12);
    assert!((found - wanted).abs() <= allowed, "{found} is not {wanted}");
}

#[test]
fn distributions() {
    for row in recorded("normal") {
        let row = numbers(&row);
        near(normal_two_sided(row[0]), row[1], 1e-10);
    }
    for row in recorded("t") {
        let row = numbers(&row);
        near(t_two_sided(row[0], row[1]), row[2], 1e-9);
    }
    for row in recorded("t_quantile") {
        let row = numbers(&row);
        near(t_quantile(row[0], row[1]), row[2], 1e-9);
    }
}

#[test]
fn rates() {
    for row in recorded("wilson") {
        let row = numbers(&row);
        let [low, high] = wilson(row[0] / row[1], row[1]).expect("n > 0");
        assert!((low - row[2]).abs() < 1e-12 && (high - row[3]).abs() < 1e-12, "{row:?}");
    }
    // Newcombe, Statistics in Medicine 17 (1998), p. 857, table I.
    for (k, n, low, high) in [
        (81.0, 263.0, 0.2553, 0.3662),
        (15.0, 148.0, 0.0624, 0.1605),
        (0.0, 20.0, 0.0, 0.1611),
        (1.0, 29.0, 0.0061, 0.1718),
    ] {
        let found = wilson(k / n, n).expect("n > 0");
        assert!((found[0] - low).abs() < 6e-5 && (found[1] - high).abs() < 6e-5, "{found:?}");
    }
    assert_eq!(wilson(0.5, 0.0), None);
}

#[test]
fn pairs() {
    for row in recorded("mcnemar") {
        let row = numbers(&row);
        let counts = Discordant { first: row[0], second: row[1], pairs: 2000.0 };
        near(counts.exact_p(), row[2], 1e-9);
        near(counts.p(), row[3], 1e-9);
    }
    for row in recorded("tango") {
        let row = numbers(&row);
        let counts = Discordant { first: row[0], second: row[1], pairs: row[2] };
        let [low, high] = counts.interval().expect("pairs");
        assert!(
            (low - row[3]).abs() < 1e-6 && (high - row[4]).abs() < 1e-6,
            "{row:?} {low} {high}"
        );
        // The interval is McNemar's test turned round.
        assert_eq!(low > 0.0 || high < 0.0, counts.p() < 0.05, "{row:?}");
    }
    // Fagerland, Lydersen, Laake, Statistics in Medicine 33 (2014), p. 2850: airway reactivity of 21
    // children before and after a transplantation.
    let counts = Discordant { first: 1.0, second: 7.0, pairs: 21.0 };
    assert!((counts.exact_p() - 0.0703).abs() < 5e-5 && (counts.p() - 0.0339).abs() < 5e-5);
    let [low, high] = counts.interval().expect("pairs");
    assert!((low + 0.517).abs() < 5e-4 && (high + 0.026).abs() < 5e-4, "{low} {high}");
    // Agresti, Categorical Data Analysis (2002), section 10.1: approval of a prime minister before and
    // after; difference 0.04, Wald's interval 0.02 to 0.06.
    let counts = Discordant { first: 150.0, second: 86.0, pairs: 1600.0 };
    assert!((counts.difference() - 0.04).abs() < 1e-12);
    let [low, high] = counts.interval().expect("pairs");
    assert!((low - 0.02).abs() < 2e-3 && (high - 0.06).abs() < 2e-3, "{low} {high}");
    assert_eq!(Discordant::default().interval(), None);
    assert_eq!(Discordant { pairs: 9.0, ..Discordant::default() }.p(), 1.0);
}

#[test]
fn families_and_judges() {
    for row in recorded("holm") {
        let found = holm(&numbers(&row[0]));
        for (found, wanted) in found.iter().zip(numbers(&row[1])) {
            near(*found, wanted, 1e-12);
        }
    }
    for row in recorded("kappa") {
        let table = [numbers(&row[0][0]), numbers(&row[0][1])];
        let table = table.map(|row| [row[0], row[1]]);
        let found = kappa(table).expect("both answers occur");
        near(found.value, row[1].as_f64().expect("a number"), 1e-12);
        let [low, high] = found.interval;
        let wanted = [&row[2], &row[3]].map(|end| end.as_f64().expect("a number").clamp(-1.0, 1.0));
        assert!((low - wanted[0]).abs() < 1e-9 && (high - wanted[1]).abs() < 1e-9, "{row}");
    }
    assert_eq!(kappa([[7.0, 0.0], [0.0, 0.0]]), None);
    assert_eq!(kappa([[0.0; 2]; 2]), None);
    assert_eq!(kappa([[0.0, 5.0], [5.0, 0.0]]).map(|kappa| kappa.value), Some(-1.0));
}

#[test]
fn designs() {
    for row in recorded("power") {
        let row = numbers(&row);
        near(power(row[0], row[1] as usize), row[2], 1e-6);
    }
    for row in recorded("detectable") {
        let row = numbers(&row);
        near(detectable(1.0, row[0] as usize).expect("two seeds"), row[1], 1e-5);
    }
    assert_eq!((power(3.0, 1), detectable(1.0, 1)), (0.0, None));
}

#[test]
fn seeds() {
    for row in recorded("student") {
        let summary = Summary::of(&numbers(&row[0])).expect("values");
        let [low, high] = summary.interval().expect("several");
        near(low, row[1].as_f64().expect("a number"), 1e-8);
        near(high, row[2].as_f64().expect("a number"), 1e-8);
        near(summary.p().expect("several"), row[3].as_f64().expect("a number"), 1e-7);
    }
    assert_eq!(Summary::of(&[]), None);
    assert_eq!(Summary::of(&[4.0]).and_then(|one| one.interval()), None);
}

#[test]
fn clusters() {
    for row in recorded("clustered") {
        let (groups, values) = (numbers(&row[0]), numbers(&row[1]));
        let values: Vec<_> = groups.iter().map(|group| *group as usize).zip(values).collect();
        let found = Clustered::of(&values).expect("values");
        near(found.robust, row[2].as_f64().expect("a number"), 1e-9);
        assert!(found.effective() < 60.0 && found.effective() >= 1.0);
    }
    let alone: Vec<_> = (0..10).map(|n| (n, f64::from(n as u8 % 2))).collect();
    assert_eq!(Clustered::of(&alone).map(|found| found.effective()), Some(10.0));
    // Four draws to each prompt that never differ are worth one.
    let copies: Vec<_> = (0..240).map(|n| (n / 4, f64::from(u8::from(n < 120)))).collect();
    let worth = Clustered::of(&copies).expect("values").effective();
    assert!((56.0..60.0).contains(&worth), "{worth}");
    let same: Vec<_> = (0..240).map(|n| (n / 4, 1.0)).collect();
    assert_eq!(Clustered::of(&same).map(|found| found.effective()), Some(60.0));
}

#[test]
fn a_difference_stays_possible_and_knows_its_prompts() {
    let seed = |first: usize, second: usize, number: usize| {
        let answer =
            |n: usize| Answer { cluster: 60 * number + n, first: n < first, second: n < second };
        Seed {
            difference: (first as f64 - second as f64) / 60.0,
            answers: (0..60).map(answer).collect(),
        }
    };
    // Three seeds that all differ by as much: Student's t alone has no width.
    let alike: Vec<_> = (0..3).map(|number| seed(6, 53, number)).collect();
    let found = Difference::of(&alike).expect("seeds");
    let [low, high] = found.interval.expect("a rate");
    assert!(low < -0.80 && high > -0.76 && found.p.is_some_and(|p| p > 0.0), "{found:?}");
    // Three that vary much: Student's t alone ends beyond what is possible.
    let wide: Vec<_> =
        [(0, 12), (1, 55), (9, 35)].iter().zip(0..).map(|((a, b), n)| seed(*a, *b, n)).collect();
    let found = Difference::of(&wide).expect("seeds");
    assert_eq!(found.interval.map(|[low, _]| low), Some(-1.0));
    assert!(found.p.is_some_and(|p| p > 0.05));
    // One seed is McNemar's exact test.
    let found = Difference::of(&[seed(6, 11, 0)]).expect("one seed");
    assert_eq!(found.p, Some(0.0625));
    assert!(found.interval.is_some_and(|[low, high]| low < 0.0 && high > -0.08));
    // A figure that is no rate has no interval of one seed, and Student's of several.
    let plain = |difference: f64| Seed { difference, answers: Vec::new() };
    assert_eq!(Difference::of(&[plain(-3.0)]).expect("one").interval, None);
    let found = Difference::of(&[plain(1.0), plain(2.0), plain(6.0)]).expect("three");
    let wanted = Summary::of(&[1.0, 2.0, 6.0]).and_then(|summary| summary.interval());
    assert_eq!(found.interval, wanted);
    assert_eq!(Difference::of(&[]), None);
}

#[test]
fn a_level_is_wilsons_of_one_seed_and_never_narrower_of_several() {
    let seed = |counts: usize, number: usize| SeedLevel {
        value: counts as f64 / 60.0,
        answers: (0..60).map(|n| (60 * number + n, n < counts)).collect(),
    };
    let one = Level::of(&[seed(47, 0)]).expect("a seed");
    assert_eq!(one.interval, wilson(47.0 / 60.0, 60.0));
    assert_eq!((one.summary.n, one.summary.sd), (1, None));
    let alike: Vec<_> = (0..3).map(|number| seed(0, number)).collect();
    assert_eq!(Level::of(&alike).and_then(|level| level.interval), wilson(0.0, 180.0));
    let wide = Level::of(&[seed(5, 0), seed(58, 1), seed(40, 2)]).expect("seeds");
    assert_eq!(wide.interval, Some([0.0, 1.0]));
    let plain = |value: f64| SeedLevel { value, answers: Vec::new() };
    let found = Level::of(&[plain(-4.0), plain(-4.5)]).expect("seeds");
    assert_eq!(found.interval, Summary::of(&[-4.0, -4.5]).and_then(|all| all.interval()));
    assert_eq!(Level::of(&[]), None);
}
