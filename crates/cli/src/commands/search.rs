//! `vxf search`: random settings of a method or an attack, halved from seed to seed.

use std::path::{Path, PathBuf};

use clap::Args as Group;
use serde_json::{Value, json};
use vxf_recipe::paths;
use vxf_report::durability::Figures;
use vxf_report::objective::{Beside, Objective};
use vxf_report::{Line, Record, TextTable};
use vxf_run::plan::Role;
use vxf_run::{Control, Every, Graph, Prepared};
use vxf_sweep::durability::{aligned, cells, plain};
use vxf_sweep::search::{Candidate, Dimension, Search, stated};
use vxf_sweep::workers::typed;

use crate::args::{EXIT_CODES, HubOptions, RecipeOptions};
use crate::commands::{SCHEMA_VERSION, layers, several};
use crate::error::CommandError;
use crate::output::{print, print_json, tell};
use crate::progress::{Reporter, access};
use crate::signals;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SearchArgs {
    /// The recipe. Its seeds are validation seeds: report results on others.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: RecipeOptions,
    /// A setting to search, such as perturber.rho=0.5..10:log, fine_tuning.epochs=2,4,8; repeatable
    /// [default: the ranges that the recipe's methods state, with `--attacker` those of its attack; see `vxf show NAME`].
    #[arg(long, value_name = "KEY=RANGE", allow_hyphen_values = true)]
    pub(crate) over: Vec<String>,
    /// Candidates, the recipe as it is among them. Give every method the same number.
    #[arg(long, value_name = "N", default_value_t = 24,
        value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub(crate) budget: u16,
    /// Search for the attacker: the highest harmful score less lost accuracy. Without it, for the defender:
    /// the lowest harmful score plus what is lost in helpfulness, before the attack or after it, and in accuracy.
    #[arg(long)]
    pub(crate) attacker: bool,
    /// Seed of the draws.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) draw_seed: u64,
    /// Directory of the experiments, one for each round [default: runs/search-<defense>-<digest>].
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// How often to save a checkpoint: every N steps (200) or after a time (90s, 10m, 2h).
    #[arg(long, value_name = "STEPS|TIME", default_value = "10m")]
    pub(crate) checkpoint_every: Every,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A candidate and what it reached in each round so far.
struct Tried<'a> {
    index: usize,
    candidate: &'a Candidate,
    rounds: Vec<Objective>,
}

impl Tried<'_> {
    /// The mean of a part over rounds.
    fn mean(&self, part: impl Fn(&Objective) -> f64) -> f64 {
        self.rounds.iter().map(part).sum::<f64>() / self.rounds.len().max(1) as f64
    }

    /// The mean of a loss over rounds; a dash if it was not measured.
    fn lost(&self, part: impl Fn(&Objective) -> Option<f64>) -> String {
        match self.rounds.iter().all(|round| part(round).is_some()) {
            true => format!("{:.1}", self.mean(|round| part(round).unwrap_or(0.0))),
            false => "-".to_owned(),
        }
    }

    /// Lower is better.
    fn cost(&self, attacker: bool) -> f64 {
        match attacker {
            true => -self.mean(Objective::of_attacker),
            false => self.mean(Objective::of_defender),
        }
    }

    /// Adds what it reached in a round.
    fn add(&mut self, round: &Round) -> Result<(), CommandError> {
        let objective = round.objective(self.index).ok_or_else(|| {
            CommandError::failed(format!("`{}` was not measured", self.settings()))
        })?;
        self.rounds.push(objective);
        Ok(())
    }

    fn settings(&self) -> String {
        match self.candidate.values.as_slice() {
            [] => "the recipe as it is".to_owned(),
            values => values
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// A round that is done.
struct Round {
    graph: Graph,
    /// The candidate of each point.
    points: Vec<usize>,
    figures: Figures,
    records: Vec<Record>,
}

impl Round {
    /// The attacked and the aligned model of a candidate: under the method, or trained plainly.
    fn models(&self, role: Role, candidate: usize) -> Option<(Line, Line)> {
        let point = self.points.iter().position(|other| *other == candidate)?;
        // A model has the index of its point; plain alignment has the same points.
        let all: Vec<usize> = (0..self.points.len()).collect();
        let cell = cells(&self.graph, &all, role).into_iter().find(|cell| cell.attack == point)?;
        Some((cell.line, aligned(&self.graph, role, point)?))
    }

    /// What a candidate reached beside plain training of the recipe as it is.
    fn objective(&self, candidate: usize) -> Option<Objective> {
        let (attacked, aligned) = self.models(Role::Tested, candidate)?;
        let own = Beside { attacked: &attacked, aligned: &aligned };
        let (attacked, aligned) = self.models(plain(&self.graph), 0)?;
        let plain = Beside { attacked: &attacked, aligned: &aligned };
        Objective::of(&self.records, own, plain, &self.figures)
    }
}

/// Says which losses do not count, because nothing measures them.
fn warn_of_missing(figures: &Figures) {
    let measured = [("helpfulness", &figures.useful), ("accuracy", &figures.accuracy)];
    for (name, _) in measured.iter().filter(|(_, figure)| figure.is_none()) {
        tell(&format!("warning: `{name}` is not measured, so its loss does not count"));
    }
}

pub(crate) fn run(args: &SearchArgs) -> Result<(), CommandError> {
    let space = args.over.iter().map(|text| Dimension::parse(text));
    let space = space.collect::<Result<Vec<_>, _>>();
    let space = space.map_err(|rule| CommandError::usage(format!("--over: {rule}")))?;
    let layer = layers::layer(args.recipe.as_deref(), &args.choices)?;
    paths::check(&layer)?;
    let space = if space.is_empty() { stated(&layer, args.attacker)? } else { space };
    if space.is_empty() {
        let whose = if args.attacker { "attack states" } else { "methods state" };
        return Err(CommandError::usage(format!("the recipe's {whose} no ranges to search"))
            .hint("give some, such as `--over fine_tuning.learning_rate=2e-5..1e-3:log`"));
    }
    let search = Search::of(layer, &space, usize::from(args.budget), args.draw_seed)?;
    let asked = signals::watched()?;
    let control = Control::new(args.checkpoint_every, &asked);
    let everyone: Vec<usize> = (0..search.candidates.len()).collect();
    let first = search.round(0, &everyone)?;
    let digest = vxf_recipe::digest(&json!([first.essence(), search.seeds, args.attacker]));
    let named = || Path::new("runs").join(format!("search-{}-{}", search.method, &digest[..8]));
    let root = args.output_dir.clone().unwrap_or_else(named);

    let candidates = search.candidates.iter().enumerate();
    let tried = candidates.map(|(index, candidate)| Tried { index, candidate, rounds: Vec::new() });
    let mut left: Vec<Tried<'_>> = tried.collect();
    let (mut out, mut runs) = (Vec::new(), 0);
    let reporter = Reporter::new(asked.clone());
    for (round, count) in search.rounds().into_iter().enumerate() {
        let better = |a: &Tried<'_>, b: &Tried<'_>| {
            let costs = a.cost(args.attacker).total_cmp(&b.cost(args.attacker));
            costs.then(a.index.cmp(&b.index))
        };
        left.sort_by(better);
        out.splice(0..0, left.split_off(count.min(left.len())));
        left.sort_by_key(|tried| tried.index);
        let place = root.join(format!("round-{}", round + 1));
        tell(&format!("round {}: {count} candidates, in {}", round + 1, place.display()));
        // What a candidate loses is measured against one model for all: plain training of the recipe as it is.
        let mut points: Vec<usize> = left.iter().map(|tried| tried.index).collect();
        if !points.contains(&0) {
            points.insert(0, 0);
        }
        let prepared = Prepared::new(search.round(round, &points)?, access(args.finding.offline)?)?;
        let graph = prepared.graph.clone();
        let figures = several::figures(&graph.layout)?;
        if round == 0 {
            warn_of_missing(&figures);
        }
        let finished = several::execute(prepared, &place, control, &reporter)?;
        let round = Round { graph, points, figures, records: finished.records };
        // The recipe as it is has run, too, where it has lost already.
        let own = out.iter_mut().filter(|tried: &&mut Tried<'_>| tried.index == 0);
        left.iter_mut().chain(own).try_for_each(|tried| tried.add(&round))?;
        runs += round.points.len();
    }
    left.extend(out);
    left.sort_by(|a, b| {
        let seeds = b.rounds.len().cmp(&a.rounds.len());
        seeds.then(a.cost(args.attacker).total_cmp(&b.cost(args.attacker)))
    });
    let best = left.first().map(|tried| tried.candidate.values.clone()).unwrap_or_default();
    match args.json {
        true => print_json(&value(args, &search, &left, &best, runs, &root)),
        false => print(&text(args, &search, &left, &best, runs, &root)),
    }
}

type Values = Vec<(String, Value)>;

fn value(
    args: &SearchArgs,
    search: &Search,
    tried: &[Tried<'_>],
    best: &Values,
    runs: usize,
    root: &Path,
) -> Value {
    let settings = |values: &Values| -> Value {
        values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let each = |tried: &Tried<'_>| {
        json!({
            "settings": settings(&tried.candidate.values),
            "objective": match args.attacker {
                true => tried.mean(Objective::of_attacker),
                false => tried.mean(Objective::of_defender),
            },
            "rounds": tried.rounds,
        })
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "directory": root,
        "method": search.method,
        "for": if args.attacker { "attacker" } else { "defender" },
        "harmful_ratio": search.ratio,
        "seeds": search.seeds,
        "budget": { "candidates": search.candidates.len(), "evaluations": runs },
        "best": settings(best),
        "candidates": tried.iter().map(each).collect::<Vec<_>>(),
    })
}

fn text(
    args: &SearchArgs,
    search: &Search,
    tried: &[Tried<'_>],
    best: &Values,
    runs: usize,
    root: &Path,
) -> String {
    let goal = match args.attacker {
        true => "harmful score less lost accuracy, the highest is best",
        false => "harmful score plus lost helpfulness and lost accuracy, the lowest is best",
    };
    let mut text = format!(
        "{} candidates for {}, {runs} evaluations over {} seeds at p = {}: {goal}; those tried on more seeds \
         first\n\n",
        search.candidates.len(),
        search.method,
        search.seeds.len(),
        search.ratio,
    );
    let header = ["settings", "seeds", "objective", "HS %", "lost help", "lost FA"];
    let mut table = TextTable::new(header.map(str::to_owned));
    for it in tried {
        let objective = match args.attacker {
            true => it.mean(Objective::of_attacker),
            false => it.mean(Objective::of_defender),
        };
        table.row([
            it.settings(),
            it.rounds.len().to_string(),
            format!("{objective:.1}"),
            format!("{:.1}", it.mean(|it| it.harmful)),
            it.lost(|it| it.lost_help),
            it.lost(|it| it.lost_accuracy),
        ]);
    }
    text += &table.render();
    let flags = best
        .iter()
        .map(|(key, value)| format!(" {}", typed(&["--set".to_owned(), format!("{key}={value}")])));
    let flags: String = flags.collect();
    text += &match flags.is_empty() {
        true => "\nNo draw was better than the recipe as it is.\n".to_owned(),
        false => format!("\nThe best:{flags}\n"),
    };
    text +=
        "It was chosen on these seeds, so its figures here are too good: report it on others.\n";
    text + &format!("\nAll files are in {}\n", root.display())
}
