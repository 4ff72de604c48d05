//! `vxf durability`: a family of attacks, the worst of them on fresh seeds, and a card.

use std::path::{Path, PathBuf};

use clap::{Args as Group, ValueEnum};
use serde_json::json;
use vxf_recipe::{Layer, paths};
use vxf_report::Line;
use vxf_report::durability::Cell;
use vxf_report::durability::{Evidence, Figures, Reached, Useless, card, ranked};
use vxf_run::plan::Role;
use vxf_run::{Control, Every, Finished, Graph, Prepared};
use vxf_sweep::durability::{self, Durability, Trial, aligned, cells};

use crate::args::{EXIT_CODES, HubOptions, RecipeOptions};
use crate::commands::executor::{Executor, ExecutorOptions};
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{print, print_json, tell};
use crate::progress::{Reporter, access};
use crate::signals;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DurabilityArgs {
    /// The recipe: its method is tested, and its user's stage is what attacks vary.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: RecipeOptions,
    /// How many attacks are tried, and on how many fresh seeds.
    #[arg(long, value_enum, default_value_t = Profile::Standard)]
    pub(crate) profile: Profile,
    /// Draws of each attack with the profile tamperbench [default: 40].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) trials: Option<u16>,
    /// Seeds on which the worst attack is tried again [default: those after the recipe's].
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    pub(crate) fresh_seed: Vec<u64>,
    /// A setting of the experiments on fresh seeds, such as data.harmful_test.skip=60 for prompts that the
    /// attack was not chosen on; repeatable. The embedded world draws other prompts for each seed anyway.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) fresh_set: Vec<String>,
    /// A setting that gives the user another task, to which the gain must transfer, such as
    /// data.user.path=other.jsonl;
    /// repeatable [default in the embedded world: another of its tasks].
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) transfer_set: Vec<String>,
    /// Worker processes [default: threads of this process]. Figures do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: Option<u16>,
    /// Directory of the experiments [default: runs/durability-<defense>-<digest>]; never overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// How often to save a checkpoint: every N steps (200) or after a time (90s, 10m, 2h).
    #[arg(long, value_name = "STEPS|TIME", default_value = "10m")]
    pub(crate) checkpoint_every: Every,
    /// Fail if the card does not hold.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How many attacks are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// A few, to see that it works.
    Smoke,
    /// The usual family.
    Standard,
    /// A wide family, for a claim.
    Stress,
    /// TamperBench's protocol: random draws of each of its attacks that need no data of their own.
    Tamperbench,
}

impl DurabilityArgs {
    /// The profile with its draws, and the rule by which a model is too useless to count.
    fn profile(&self) -> Result<(durability::Profile, Useless), CommandError> {
        use durability::Profile as Family;
        if self.trials.is_some() && self.profile != Profile::Tamperbench {
            return Err(CommandError::usage(
                "--trials: only `--profile tamperbench` draws attacks",
            ));
        }
        let family = match self.profile {
            Profile::Smoke => Family::Smoke,
            Profile::Standard => Family::Standard,
            Profile::Stress => Family::Stress,
            Profile::Tamperbench => {
                let trials = self.trials.map_or(durability::TRIALS, usize::from);
                return Ok((Family::TamperBench(trials), Useless::Share(durability::LOST)));
            }
        };
        Ok((family, Useless::BeyondChance))
    }
}

/// An executed experiment.
struct Done {
    graph: Graph,
    finished: Finished,
    attacks: Vec<usize>,
}

impl Done {
    fn cells(&self, role: Role) -> Vec<Cell> {
        cells(&self.graph, &self.attacks, role)
    }
}

/// The settings of a flag that changes some of the experiments.
fn further(flag: &str, texts: &[String]) -> Result<Layer, CommandError> {
    let mut layer = layers::sets_of(flag, texts)?;
    paths::make_absolute(&mut layer, paths::SeenFrom::Command(Path::new("")))?;
    if layer.values().contains_key("axes") {
        let rule = format!("{flag}: must give one value: these experiments have no axes");
        return Err(CommandError::usage(rule));
    }
    const OWN: [&str; 5] = ["harmful_ratios", "seeds", "stage", "baseline", "undefended"];
    match OWN.iter().find(|key| layer.values().contains_key(**key)) {
        Some(key) => {
            Err(CommandError::usage(format!("{flag} {key}: the test itself sets `{key}`"))
                .hint("`--fresh-seed` names the fresh seeds"))
        }
        None => Ok(layer),
    }
}

pub(crate) fn run(args: &DurabilityArgs) -> Result<(), CommandError> {
    let layer = layers::layer(args.recipe.as_deref(), &args.choices)?;
    paths::check(&layer)?;
    let held_out = further("--fresh-set", &args.fresh_set)?;
    let other_task = further("--transfer-set", &args.transfer_set)?;
    let (profile, useless) = args.profile()?;
    let test = Durability::of(layer, profile, &args.fresh_seed)?;
    // A mistake in them must not come up after the search.
    let first = [0];
    let trials = [
        Some(test.again(&first, &test.ratios, &held_out)?),
        test.elsewhere(&first, &test.ratios, &held_out, &other_task)?,
        Some(test.benign(&held_out)?),
    ];
    for trial in trials.into_iter().flatten() {
        // Opens the data, too.
        Prepared::new(trial.experiment, access(args.finding.offline)?)?;
    }
    if test.adapters_only {
        tell(
            "warning: the base is quantised, so that attacks on all weights (full training, abliteration, pruning) \
             are left out: an attacker who has the weights can do more",
        );
    }
    if test.harmful_only {
        tell(
            "warning: the data has no set `benign`, so that attacks which need harmless samples of other kinds than \
             the user's are left out",
        );
    }
    let asked = signals::watched()?;
    let control = Control::new(args.checkpoint_every, &asked);
    let search = test.search()?;
    let digest = vxf_recipe::digest(&json!([
        search.experiment.essence(),
        test.fresh,
        args.fresh_set,
        args.transfer_set
    ]));
    let named = || Path::new("runs").join(format!("durability-{}-{}", test.method, &digest[..8]));
    let root = args.output_dir.clone().unwrap_or_else(named);
    let execute = |name: &str, trial: Trial| -> Result<Done, CommandError> {
        let Trial { experiment, attacks } = trial;
        let points = match experiment.points.len() {
            1 => "1 point".to_owned(),
            count => format!("{count} points"),
        };
        tell(&format!("{name}: {points}, in {}", root.join(name).display()));
        let mut prepared = Prepared::new(experiment, access(args.finding.offline)?)?;
        let graph = prepared.graph.clone();
        let executor = ExecutorOptions {
            executor: args.workers.map(|_| Executor::Local),
            workers: args.workers,
            ..ExecutorOptions::default()
        };
        let (place, reporter) = (root.join(name), Reporter::new(asked.clone()));
        // Workers of this machine: they have ended when this returns.
        let distributed =
            executor.distribute(&mut prepared, Some(&place), &args.finding, control, &reporter);
        distributed.map_err(CommandError::of_several)?;
        let finished = prepared
            .run(Some(&place), control, &reporter)
            .map_err(|error| CommandError::from(error).of_several())?;
        if !finished.failures.is_empty() {
            return Err(CommandError::metrics(&finished.failures)
                .hint("the same command measures what is missing"));
        }
        Ok(Done { graph, finished, attacks })
    };

    let search = execute("search", search)?;
    let names: Vec<String> = test.attacks.iter().map(|attack| attack.name.clone()).collect();
    let layout = &search.finished.layout;
    let figures = Figures::of(layout).ok_or_else(|| {
        CommandError::usage("the recipe measures no figure by which methods are compared")
            .hint("add the metric `harmful-score`")
    })?;
    // Plain training under test is its own baseline.
    let plain_role = |graph: &Graph| match graph.finals.iter().any(|it| it.role == Role::Baseline) {
        true => Role::Baseline,
        false => Role::Tested,
    };
    let plain = plain_role(&search.graph);
    let rank = |role| {
        let records = &search.finished.records;
        // What an attack costs is what the model it attacks could do before.
        let before = aligned(&search.graph, role, 0);
        ranked(records, &search.cells(role), &names, &figures, before.as_ref(), useless)
    };
    let (defended, undefended) = (rank(Role::Tested), rank(plain));
    // An attack that leaves a useless model is the worst one only where all do; the card says so then.
    let worst = |reached: &[Reached]| reached.first().map(|it| (it.attack, it.ratio));
    let (own, other) = (worst(&defended), worst(&undefended));
    let (mut chosen, mut ratios) = (Vec::new(), Vec::new());
    for (attack, ratio) in own.into_iter().chain(other) {
        if !chosen.contains(&attack) {
            chosen.push(attack);
        }
        if !ratios.contains(&ratio) {
            ratios.push(ratio);
        }
    }

    let fresh = execute("fresh", test.again(&chosen, &ratios, &held_out)?)?;
    let elsewhere = test.elsewhere(&chosen, &ratios, &held_out, &other_task)?;
    let elsewhere = elsewhere.map(|trial| execute("transfer", trial)).transpose()?;
    let benign = execute("benign", test.benign(&held_out)?)?;
    let find = |done: &Done, role, wanted: Option<(usize, f64)>| {
        let (attack, ratio) = wanted?;
        done.cells(role).into_iter().find(|cell| cell.attack == attack && cell.ratio == ratio)
    };
    let (worst, worst_plain) = (find(&fresh, Role::Tested, own), find(&fresh, plain, other));
    let same_on_plain = find(&fresh, plain, own);
    let there =
        elsewhere.as_ref().map(|done| [find(done, Role::Tested, own), find(done, plain, other)]);
    let claims: Vec<&str> = test.claims.iter().map(|claim| claim.figure).collect();
    let users = |role| -> Option<Line> {
        let last = benign.graph.finals.iter().find(|last| last.role == role)?;
        let runs: Vec<_> = last.runs.iter().map(|run| benign.graph.runs[*run].id.clone()).collect();
        Some(Line { name: runs.first()?.row(), runs, baseline: None })
    };
    let of = |role| (aligned(&benign.graph, role, 0), users(role));
    let ((own_aligned, own_users), (plain_aligned, plain_users)) = (of(Role::Tested), of(plain));
    let of_benign = Figures::of(&benign.finished.layout).unwrap_or_else(|| figures.clone());
    let evidence = Evidence {
        defended: &defended,
        plain: &undefended,
        fresh: &fresh.finished.records,
        worst: worst.as_ref(),
        worst_plain: worst_plain.as_ref(),
        same_on_plain: same_on_plain.as_ref(),
        claims: &claims,
        elsewhere: elsewhere.as_ref().zip(there.as_ref()).map(|(done, cells)| {
            (&done.finished.records[..], [cells[0].as_ref(), cells[1].as_ref()])
        }),
        prompts: benign.finished.overlaps.get("harmful").copied(),
        benign: &benign.finished.records,
        aligned: [own_aligned.as_ref(), plain_aligned.as_ref()],
        users: [own_users.as_ref(), plain_users.as_ref()],
        figures: &of_benign,
    };
    let criteria = evidence.criteria();
    match args.json {
        true => print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "directory": root,
            "method": test.method,
            "seeds": test.seeds,
            "fresh_seeds": test.fresh,
            "criteria": criteria,
            "adaptive": test.adaptive,
            "attacks": defended,
            "attacks_on_plain_alignment": undefended,
        }))?,
        false => {
            let text = card(&test.method, &criteria, &defended, &undefended);
            let knows = match test.adaptive {
                true => "",
                false => {
                    "No attack here trains by an objective of one who knows the method: this card says nothing of \
                     such an attacker.\n"
                }
            };
            print(&format!("{text}\n{knows}All files are in {}\n", root.display()))?;
        }
    }
    let failing = criteria.iter().filter(|it| it.holds != Some(true)).map(|it| it.name);
    let failing: Vec<_> = failing.collect();
    match failing.is_empty() || !args.strict {
        true => Ok(()),
        false => {
            let names = failing.join(", ");
            let message = format!("the card does not hold ({names}), and `--strict` is set");
            Err(CommandError::failed(message))
        }
    }
}
