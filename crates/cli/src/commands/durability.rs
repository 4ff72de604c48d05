//! `vxf durability`: a family of attacks, the worst of them on fresh seeds, and a card.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args as Group, ValueEnum};
use serde_json::json;
use vxf_recipe::{Layer, paths};
use vxf_report::Line;
use vxf_report::durability::{Cell, Criterion, Evidence, Reached, Useless, card, ranked};
use vxf_run::plan::Role;
use vxf_run::{Control, Every, Finished, Graph, Prepared};
use vxf_sweep::durability::{self, Durability, Trial, aligned, cells, plain};

use crate::args::{EXIT_CODES, HubOptions, RecipeOptions};
use crate::commands::executor::{Executor, ExecutorOptions};
use crate::commands::{SCHEMA_VERSION, layers, several};
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
    /// An experiment, or a directory of them, whose trained runs serve this test where they are the same (equal
    /// digests); repeatable.
    #[arg(long, value_name = "DIR")]
    pub(crate) reuse: Vec<PathBuf>,
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

/// The search, and what it found: every attack by what it reached, the worst first.
struct Search {
    /// Whose models were aligned plainly.
    plain: Role,
    defended: Vec<Reached>,
    undefended: Vec<Reached>,
}

/// An attack by its index, and a harmful ratio.
type Worst = Option<(usize, f64)>;

impl Search {
    fn of(test: &Durability, done: &Done, useless: Useless) -> Result<Self, CommandError> {
        let figures = several::figures(&done.finished.layout)?;
        let plain = plain(&done.graph);
        let names: Vec<String> = test.attacks.iter().map(|attack| attack.name.clone()).collect();
        let rank = |role| {
            // What an attack costs is what the model it attacks could do before.
            let before = aligned(&done.graph, role, 0);
            let records = &done.finished.records;
            ranked(records, &done.cells(role), &names, &figures, before.as_ref(), useless)
        };
        let (defended, undefended) = (rank(Role::Tested), rank(plain));
        Ok(Self { plain, defended, undefended })
    }

    /// The worst attack on the method, and on plain alignment. One that leaves a useless model is the worst only
    /// where all do; the card says so then.
    fn worst(&self) -> [Worst; 2] {
        [&self.defended, &self.undefended]
            .map(|reached| reached.first().map(|it| (it.attack, it.ratio)))
    }

    /// The attacks and the ratios of [`Self::worst`], each once.
    fn chosen(&self) -> (Vec<usize>, Vec<f64>) {
        let (mut attacks, mut ratios) = (Vec::new(), Vec::new());
        for (attack, ratio) in self.worst().into_iter().flatten() {
            if !attacks.contains(&attack) {
                attacks.push(attack);
            }
            if !ratios.contains(&ratio) {
                ratios.push(ratio);
            }
        }
        (attacks, ratios)
    }
}

/// A test, and how its experiments are executed.
struct Lab<'a> {
    args: &'a DurabilityArgs,
    test: Durability,
    /// What `--fresh-set` and `--transfer-set` change.
    held_out: Layer,
    other_task: Layer,
    root: PathBuf,
    asked: Arc<AtomicBool>,
}

impl<'a> Lab<'a> {
    /// Reads the recipe and the flags, and checks all experiments.
    fn of(args: &'a DurabilityArgs, profile: durability::Profile) -> Result<Self, CommandError> {
        let layer = layers::layer(args.recipe.as_deref(), &args.choices)?;
        paths::check(&layer)?;
        let held_out = further("--fresh-set", &args.fresh_set)?;
        let other_task = further("--transfer-set", &args.transfer_set)?;
        let test = Durability::of(layer, profile, &args.fresh_seed)?;
        let search = test.search()?;
        let digest = vxf_recipe::digest(&json!([
            search.experiment.essence(),
            test.fresh,
            args.fresh_set,
            args.transfer_set
        ]));
        let named =
            || Path::new("runs").join(format!("durability-{}-{}", test.method, &digest[..8]));
        let root = args.output_dir.clone().unwrap_or_else(named);
        let lab = Self { args, test, held_out, other_task, root, asked: signals::watched()? };
        lab.check()?;
        Ok(lab)
    }

    /// Opens the experiments that follow the search, and their data: a mistake in them must not come up after it.
    fn check(&self) -> Result<(), CommandError> {
        let (test, first) = (&self.test, [0]);
        let trials = [
            Some(test.again(&first, &test.ratios, &self.held_out)?),
            test.elsewhere(&first, &test.ratios, &self.held_out, &self.other_task)?,
            Some(test.benign(&self.held_out)?),
        ];
        for trial in trials.into_iter().flatten() {
            let prepared = Prepared::new(trial.experiment, access(self.args.finding.offline)?)?;
            several::figures(&prepared.graph.layout)?;
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
        Ok(())
    }

    /// Executes an experiment. Models that `earlier`, another one of this test, aligned on the same seeds are not
    /// trained again.
    fn execute(
        &self,
        name: &str,
        trial: Trial,
        earlier: Option<&Done>,
    ) -> Result<Done, CommandError> {
        let Trial { experiment, attacks } = trial;
        let place = self.root.join(name);
        let points = match experiment.points.len() {
            1 => "1 point".to_owned(),
            count => format!("{count} points"),
        };
        tell(&format!("{name}: {points}, in {}", place.display()));
        let finding = &self.args.finding;
        let mut prepared = Prepared::new(experiment, access(finding.offline)?)?;
        let earlier = earlier.map(|done| done.finished.directory.root().to_owned());
        let serving: Vec<PathBuf> = self.args.reuse.iter().cloned().chain(earlier).collect();
        prepared.reuse(&serving)?;
        let graph = prepared.graph.clone();
        let executor = ExecutorOptions {
            executor: self.args.workers.map(|_| Executor::Local),
            workers: self.args.workers,
            ..ExecutorOptions::default()
        };
        let control = Control::new(self.args.checkpoint_every, &self.asked);
        let reporter = Reporter::new(self.asked.clone());
        // Workers of this machine: they have ended when this returns.
        executor
            .distribute(&mut prepared, Some(&place), finding, control, &reporter)
            .map_err(CommandError::of_several)?;
        let finished = several::execute(prepared, &place, control, &reporter)?;
        Ok(Done { graph, finished, attacks })
    }

    /// Judges the method by what the experiments gave.
    fn criteria(
        &self,
        search: &Search,
        fresh: &Done,
        elsewhere: Option<&Done>,
        benign: &Done,
    ) -> Result<Vec<Criterion>, CommandError> {
        let (plain, [own, other]) = (search.plain, search.worst());
        let find = |done: &Done, role, wanted: Worst| {
            let (attack, ratio) = wanted?;
            done.cells(role).into_iter().find(|cell| cell.attack == attack && cell.ratio == ratio)
        };
        let (worst, worst_plain) = (find(fresh, Role::Tested, own), find(fresh, plain, other));
        let same_on_plain = find(fresh, plain, own);
        let there = elsewhere.map(|done| [find(done, Role::Tested, own), find(done, plain, other)]);
        let claims: Vec<&str> = self.test.claims.iter().map(|claim| claim.figure).collect();
        let users = |role| -> Option<Line> {
            let last = benign.graph.finals.iter().find(|last| last.role == role)?;
            let runs: Vec<_> =
                last.runs.iter().map(|run| benign.graph.runs[*run].id.clone()).collect();
            Some(Line { name: runs.first()?.row(), runs, baseline: None })
        };
        let of = |role| (aligned(&benign.graph, role, 0), users(role));
        let ((own_aligned, own_users), (plain_aligned, plain_users)) =
            (of(Role::Tested), of(plain));
        let of_benign = several::figures(&benign.finished.layout)?;
        let evidence = Evidence {
            defended: &search.defended,
            plain: &search.undefended,
            fresh: &fresh.finished.records,
            worst: worst.as_ref(),
            worst_plain: worst_plain.as_ref(),
            same_on_plain: same_on_plain.as_ref(),
            claims: &claims,
            elsewhere: elsewhere.zip(there.as_ref()).map(|(done, cells)| {
                (&done.finished.records[..], [cells[0].as_ref(), cells[1].as_ref()])
            }),
            prompts: benign.finished.overlaps.get("harmful").copied(),
            benign: &benign.finished.records,
            aligned: [own_aligned.as_ref(), plain_aligned.as_ref()],
            users: [own_users.as_ref(), plain_users.as_ref()],
            figures: &of_benign,
        };
        Ok(evidence.criteria())
    }

    fn show(&self, search: &Search, criteria: &[Criterion]) -> Result<(), CommandError> {
        let Self { test, root, .. } = self;
        let Search { defended, undefended, .. } = search;
        if self.args.json {
            return print_json(&json!({
                "schema_version": SCHEMA_VERSION,
                "directory": root,
                "method": test.method,
                "seeds": test.seeds,
                "fresh_seeds": test.fresh,
                "criteria": criteria,
                "adaptive": test.adaptive,
                "attacks": defended,
                "attacks_on_plain_alignment": undefended,
            }));
        }
        let text = card(&test.method, criteria, defended, undefended);
        let knows = match test.adaptive {
            true => "",
            false => {
                "No attack here trains by an objective of one who knows the method: this card says nothing of \
                 such an attacker.\n"
            }
        };
        print(&format!("{text}\n{knows}All files are in {}\n", root.display()))
    }
}

pub(crate) fn run(args: &DurabilityArgs) -> Result<(), CommandError> {
    let (profile, useless) = args.profile()?;
    let lab = Lab::of(args, profile)?;
    let (test, held_out) = (&lab.test, &lab.held_out);

    let search = Search::of(test, &lab.execute("search", test.search()?, None)?, useless)?;
    let (attacks, ratios) = search.chosen();
    let fresh = lab.execute("fresh", test.again(&attacks, &ratios, held_out)?, None)?;
    let elsewhere = test.elsewhere(&attacks, &ratios, held_out, &lab.other_task)?;
    let elsewhere =
        elsewhere.map(|trial| lab.execute("transfer", trial, Some(&fresh))).transpose()?;
    let benign = lab.execute("benign", test.benign(held_out)?, Some(&fresh))?;

    let criteria = lab.criteria(&search, &fresh, elsewhere.as_ref(), &benign)?;
    lab.show(&search, &criteria)?;
    let failing = criteria.iter().filter(|it| it.holds != Some(true)).map(|it| it.name);
    let failing = failing.collect::<Vec<_>>().join(", ");
    match failing.is_empty() || !args.strict {
        true => Ok(()),
        false => {
            let message = format!("the card does not hold ({failing}), and `--strict` is set");
            Err(CommandError::failed(message))
        }
    }
}
