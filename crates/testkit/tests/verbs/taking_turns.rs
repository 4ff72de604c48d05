//! Two streams in turn, each with a proximal term to the end of the other's turn (Lisa, Huang et
//! al. 2024).

use vxf_core::defense::State;
use vxf_core::{Defense, Error, Gradients, Perturber, Result, Step};
use vxf_testkit::training::Nothing;

use crate::{batches, stage, toy};
use vxf_testkit::plain::{self, Weights, follow};

/// Steps on the alignment stream and on the user's, repeated.
const TURNS: [u64; 2] = [2, 3];

/// `loss of the present stream + strength / 2 |w - w_other|^2`, with w_other at the end of the
/// other stream's turn.
struct TakingTurns {
    strength: f64,
    /// The stream whose turn it is, and the steps taken in this turn.
    turn: usize,
    taken: u64,
}

impl Defense for TakingTurns {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot("other")
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let stream = ["alignment", "user"][self.turn];
        let (loss, gradients) = step.on(stream).perturbed(&perturbation).loss_and_gradients()?;
        step.record("loss", loss)?;
        let away = step.weights().sub(step.snapshot_of("other")?)?;
        gradients.add_scaled(&away, self.strength)
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.taken += 1;
        if self.taken == TURNS[self.turn] {
            (self.turn, self.taken) = (1 - self.turn, 0);
            step.snapshot("other")?;
        }
        Ok(())
    }

    fn state(&self) -> Result<State> {
        Ok(State { values: serde_json::json!([self.turn, self.taken]), ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        (self.turn, self.taken) = serde_json::from_value(state.values)
            .map_err(|error| Error::State(error.to_string()))?;
        Ok(())
    }
}

fn method() -> Box<TakingTurns> {
    Box::new(TakingTurns { strength: 0.7, turn: 0, taken: 0 })
}

#[test]
fn two_streams_and_a_snapshot_follow_the_plain_computation() {
    let toy = toy();
    let streams = [batches(&toy, 3, "alignment"), batches(&toy, 2, "user")];
    let both = vec![("user", streams[1].clone()), ("alignment", streams[0].clone())];
    let training = stage(&toy, both, method(), Box::new(Nothing));

    // A timetable instead of counters, as an independent form.
    let timetable = [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0];
    let (mut read, mut other) = ([0usize; 2], Weights::new());
    follow(training, timetable.len() as u64, |step, weights| {
        let turn = timetable[step as usize];
        if step == 0 || timetable[step as usize - 1] != turn {
            other = weights.clone();
        }
        let batch = &streams[turn][read[turn] % streams[turn].len()];
        read[turn] += 1;
        let gradient = plain::gradient(weights, |w| Ok(plain::pass(w, batch)?.loss))?;
        let away = plain::plus(weights, &other, -1.0)?;
        plain::plus(&gradient, &away, 0.7)
    });
}

#[test]
fn its_state_survives_a_stop_within_a_turn() {
    let toy = toy();
    let both =
        || vec![("user", batches(&toy, 2, "user")), ("alignment", batches(&toy, 3, "alignment"))];
    let begin = || stage(&toy, both(), method(), Box::new(Nothing));
    let mut whole = begin();
    let mut first = begin();
    for (stage, steps) in [(&mut whole, 9), (&mut first, 4)] {
        stage.prepare().expect("prepared");
        (0..steps).for_each(|_| drop(stage.step().expect("a step")));
    }
    let mut second = begin();
    vxf_testkit::defense::resume(&mut second, first).expect("resumed");
    (0..5).for_each(|_| drop(second.step().expect("a step")));
    let differs = vxf_testkit::numbers::first_difference(&whole.weights, &second.weights);
    assert_eq!(differs.expect("numbers"), None);
}
