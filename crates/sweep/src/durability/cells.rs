//! Which runs of an experiment belong to which attack.

use vxf_report::durability::Cell;
use vxf_report::{Line, RunId};
use vxf_run::plan::{Graph, Role};

/// The runs after each attack on the models of `role`, by ratio; `attacks` are the attacks of the
/// experiment's points.
pub fn cells(graph: &Graph, attacks: &[usize], role: Role) -> Vec<Cell> {
    let mut all = Vec::new();
    for last in graph.finals.iter().filter(|last| last.role == role) {
        let ids: Vec<&RunId> = last.runs.iter().map(|run| &graph.runs[*run].id).collect();
        let mut ratios: Vec<f64> = Vec::new();
        for ratio in ids.iter().filter_map(|id| id.ratio) {
            if !ratios.contains(&ratio) {
                ratios.push(ratio);
            }
        }
        for ratio in ratios {
            let here = ids.iter().filter(|id| id.ratio == Some(ratio));
            let runs: Vec<RunId> = here.map(|id| (*id).clone()).collect();
            let Some(attack) = attacks.get(last.point).copied() else { continue };
            let name = runs.first().map_or_else(String::new, RunId::row);
            all.push(Cell { attack, ratio, line: Line { name, runs, baseline: None } });
        }
    }
    all
}

/// The aligned models of `role` at `point` of the experiment, before any user.
pub fn aligned(graph: &Graph, role: Role, point: usize) -> Option<Line> {
    let mut finals = graph.finals.iter();
    let last = finals.find(|last| last.role == role && last.point == point)?;
    let mut runs: Vec<RunId> = Vec::new();
    for run in &last.runs {
        let lineage = graph.lineage(*run);
        let before = lineage.iter().map(|run| &graph.runs[*run]);
        let aligned = before
            .take_while(|spec| spec.stage.is_alignment())
            .last()
            .map(|spec| spec.id.clone())?;
        if !runs.contains(&aligned) {
            runs.push(aligned);
        }
    }
    let name = runs.first()?.row();
    Some(Line { name, runs, baseline: None })
}

/// The role of the models that were aligned plainly. Plain training under test is its own baseline.
pub fn plain(graph: &Graph) -> Role {
    match graph.finals.iter().any(|last| last.role == Role::Baseline) {
        true => Role::Baseline,
        false => Role::Tested,
    }
}
