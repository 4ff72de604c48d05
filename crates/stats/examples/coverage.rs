//! How often intervals of a difference hold the truth, by simulation.
//!
//!     cargo run --release -p vxf-stats --example coverage
//!
//! Two methods are compared over seeds and prompts, many times over, and four ways to make a 95 %
//! interval are scored by how often they hold the true difference. Rates vary over seeds as they do in
//! the embedded world, on the logit scale; answers are coin throws at a seed's rate, part of them
//! shared between the methods, as both are asked the same prompts. In a second table the prompts are
//! the same under every seed, and some are harder than others.

use vxf_stats::{Answer, Clustered, Difference, Discordant, Interval, Seed, Summary};

/// Two methods: mean rates, standard deviations over seeds on the logit scale, and how much of their
/// answers is shared.
struct World {
    name: &'static str,
    rates: [f64; 2],
    spread: [f64; 2],
    /// Standard deviation of prompts' difficulty on the logit scale, in the second table.
    prompts: f64,
}

const PROMPTS: usize = 60;
/// Correlation of the two methods' seed effects.
const SEEDS_SHARED: f64 = 0.4;
/// Share of prompts on which both methods throw the same coin.
const COIN_SHARED: f64 = 0.3;

const fn world(name: &'static str, rates: [f64; 2], spread: [f64; 2]) -> World {
    World { name, rates, spread, prompts: 1.0 }
}

/// Means and standard deviations as ten seeds of the embedded world had them, and cases without an
/// effect.
const WORLDS: [World; 10] = [
    world("helpful, p = 0.2: 20 against 75 %", [0.20, 0.75], [0.43, 0.49]),
    world("helpful, p = 0.1: 2 against 36 %", [0.02, 0.36], [1.0, 0.65]),
    world("paper, p = 0.2: 8 against 38 %", [0.08, 0.38], [1.1, 0.45]),
    world("paper, p = 0.5: 58 against 96 %", [0.58, 0.96], [0.62, 0.9]),
    world("no effect, 75 %", [0.75, 0.75], [0.49, 0.49]),
    world("no effect, 40 %, seeds vary much", [0.40, 0.40], [1.5, 1.5]),
    world("no effect, 50 %, seeds alike", [0.5, 0.5], [0.0, 0.0]),
    world("no effect, 4 %", [0.04, 0.04], [0.9, 0.9]),
    world("no effect, 98 %", [0.98, 0.98], [0.5, 0.5]),
    world("no effect, 0.2 %", [0.002, 0.002], [0.3, 0.3]),
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The location on the logit scale at which the mean rate is `rate` under normal effects of this
/// spread.
fn location(rate: f64, spread: f64) -> f64 {
    let mean = |at: f64| {
        let (mut sum, mut weights) = (0.0, 0.0);
        for step in -60..=60 {
            let z = f64::from(step) / 10.0;
            let weight = (-z * z / 2.0).exp();
            sum += weight * logistic(at + spread * z);
            weights += weight;
        }
        sum / weights
    };
    let (mut low, mut high) = (-30.0, 30.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        match mean(middle) < rate {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}

/// One experiment; `crossed` asks the same prompts under every seed.
fn experiment(
    world: &World,
    at: [f64; 2],
    seeds: usize,
    crossed: bool,
    random: &mut Random,
) -> Vec<Seed> {
    let hard: Vec<f64> = match crossed {
        true => (0..PROMPTS).map(|_| world.prompts * random.normal()).collect(),
        false => vec![0.0; PROMPTS],
    };
    // How much a method's own prompts are harder for it than for the other.
    let own: Vec<f64> = match crossed {
        true => (0..PROMPTS).map(|_| 0.5 * world.prompts * random.normal()).collect(),
        false => vec![0.0; PROMPTS],
    };
    let one = |number: usize, random: &mut Random| {
        let shared = random.normal();
        let effect = |random: &mut Random| {
            SEEDS_SHARED.sqrt() * shared + (1.0 - SEEDS_SHARED).sqrt() * random.normal()
        };
        let effects = [effect(random), effect(random)];
        let answers: Vec<_> = (0..PROMPTS)
            .map(|prompt| {
                let rate = |method: usize| {
                    let side = if method == 0 { own[prompt] } else { -own[prompt] };
                    logistic(
                        at[method] + world.spread[method] * effects[method] + hard[prompt] + side,
                    )
                };
                let coin = random.uniform();
                let other = match random.uniform() < COIN_SHARED {
                    true => coin,
                    false => random.uniform(),
                };
                let cluster = if crossed { prompt } else { number * PROMPTS + prompt };
                Answer { cluster, first: coin < rate(0), second: other < rate(1) }
            })
            .collect();
        let number = |counts: bool| f64::from(u8::from(counts));
        let sum: f64 =
            answers.iter().map(|answer| number(answer.first) - number(answer.second)).sum();
        Seed { difference: sum / PROMPTS as f64, answers }
    };
    (0..seeds).map(|number| one(number, random)).collect()
}

fn student(seeds: &[Seed]) -> Option<Interval> {
    Summary::of(&seeds.iter().map(|seed| seed.difference).collect::<Vec<_>>())?.interval()
}

/// All pairs as if seeds did not vary.
fn pooled(seeds: &[Seed]) -> Option<Interval> {
    let answers = seeds.iter().flat_map(|seed| &seed.answers);
    let values: Vec<_> = answers
        .clone()
        .map(|answer| {
            (answer.cluster, f64::from(u8::from(answer.first)) - f64::from(u8::from(answer.second)))
        })
        .collect();
    let clustered = Clustered::of(&values)?;
    let counts = Discordant::of(answers.map(|answer| (answer.first, answer.second)));
    counts.scaled(clustered.effective() / clustered.n as f64).interval()
}

/// Percentiles of means over seeds and prompts drawn anew, seeds first.
fn bootstrap(seeds: &[Seed], random: &mut Random) -> Option<Interval> {
    const DRAWS: usize = 400;
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let mut sum = 0.0;
            for _ in 0..seeds.len() {
                let answers = &seeds[random.below(seeds.len())].answers;
                for _ in 0..answers.len() {
                    let answer = answers[random.below(answers.len())];
                    sum += f64::from(u8::from(answer.first)) - f64::from(u8::from(answer.second));
                }
            }
            sum / (seeds.len() * PROMPTS) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some([means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40]])
}

fn table(crossed: bool) {
    println!(
        "{:<36} {:>5} {:>12} {:>12} {:>12} {:>12} {:>10}",
        "", "seeds", "t", "prompts", "bootstrap", "here", "wrong sign"
    );
    for world in &WORLDS {
        // Prompts' difficulty is part of a rate's spread.
        let total = |spread: f64| match crossed {
            true => (spread * spread + 1.25 * world.prompts * world.prompts).sqrt(),
            false => spread,
        };
        let at = [0, 1].map(|method| location(world.rates[method], total(world.spread[method])));
        let truth = world.rates[0] - world.rates[1];
        for seeds in [3, 5, 10] {
            let mut random = Random(seeds as u64 + 1000 * u64::from(crossed));
            let (mut held, mut widths, mut counts) = ([0usize; 4], [0.0; 4], [0usize; 4]);
            let mut rejected = 0;
            const REPEATS: usize = 4000;
            for repeat in 0..REPEATS {
                let made = experiment(world, at, seeds, crossed, &mut random);
                let whole = Difference::of(&made);
                let sampled = repeat < REPEATS / 4;
                let intervals = [
                    student(&made),
                    pooled(&made),
                    sampled.then(|| bootstrap(&made, &mut random)).flatten(),
                    whole.and_then(|whole| whole.interval),
                ];
                for (which, interval) in intervals.into_iter().enumerate() {
                    let Some([low, high]) = interval else { continue };
                    let inside = low - 1e-12 <= truth && truth <= high + 1e-12;
                    held[which] += usize::from(inside);
                    widths[which] += high - low;
                    counts[which] += 1;
                }
                if let Some([low, high]) = intervals[3] {
                    let wrong = if truth < 0.0 { low > 0.0 } else { low > 0.0 || high < 0.0 };
                    rejected += usize::from(wrong);
                }
            }
            let cell = |which: usize| {
                let n = counts[which].max(1) as f64;
                format!("{:.1} ({:.0})", 100.0 * held[which] as f64 / n, 100.0 * widths[which] / n)
            };
            let wrong = 100.0 * rejected as f64 / REPEATS as f64;
            let name = if seeds == 3 { world.name } else { "" };
            println!(
                "{name:<36} {seeds:>5} {:>12} {:>12} {:>12} {:>12} {wrong:>10.1}",
                cell(0),
                cell(1),
                cell(2),
                cell(3)
            );
        }
    }
}

fn main() {
    println!("Coverage of 95 % intervals in percent, and their mean width in points\n");
    println!("Each seed has prompts of its own, {PROMPTS} of them\n");
    table(false);
    println!("\nThe same {PROMPTS} prompts under every seed, some harder than others\n");
    table(true);
}
