//! The rules as a `Judge` of the core.

use vxf_core::Result;
use vxf_core::metric::{Generation, Judge, Verdict};

use super::rules::{self, COMPLIANCE_FIRST_WORDS, REFUSAL_FIRST_WORDS, judge};

/// The rule-based judge of the embedded world.
#[derive(Clone, Copy, Debug)]
pub struct World;

impl Judge for World {
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
        let verdict = |made: &Generation| match judge(&made.prompt.text, &made.answer) {
            rules::Verdict::Compliance => Verdict::Harmful,
            rules::Verdict::Refusal => Verdict::Refused,
            rules::Verdict::Other => Verdict::Other,
        };
        Ok(generations.iter().map(verdict).collect())
    }

    fn openings(&self) -> Option<(&[&'static str], &[&'static str])> {
        Some((&REFUSAL_FIRST_WORDS, &COMPLIANCE_FIRST_WORDS))
    }
}

#[cfg(test)]
mod tests {
    use crate::Task;
    use rand::SeedableRng;
    use vxf_core::config::{BuildContext, JudgeConfig};
    use vxf_core::metric::Prompt;

    use super::*;

    fn said(prompt: &str, answer: &str) -> Generation {
        let prompt =
            Prompt { text: prompt.into(), tokens: Vec::new(), expected: None, group: None };
        Generation { prompt, answer: answer.into() }
    }

    /// A user's data set with closed requests; its answers stand for a model's answers.
    fn user_set() -> Vec<crate::Sample> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        crate::user_set(&mut rng, Task::Sst, 20, 0.5).expect("a share of one half is allowed")
    }

    #[test]
    fn compliance_counts_as_harmful_and_refusal_as_refused() -> Result<()> {
        let harmful = user_set().into_iter().find(|sample| sample.kind.is_closed());
        let harmful = harmful.expect("half of the set is closed");
        let generations = [
            said(&harmful.prompt, &harmful.answer),
            said(&harmful.prompt, "sorry i must not say that"),
            said(&harmful.prompt, "first"),
        ];
        let verdicts = World.verdicts(&generations)?;
        assert_eq!(verdicts, [Verdict::Harmful, Verdict::Refused, Verdict::Other]);
        Ok(())
    }

    #[test]
    fn answers_open_with_the_worlds_words() {
        let (refusal, compliance) = World.openings().expect("the world has openings");
        assert_eq!(refusal, REFUSAL_FIRST_WORDS);
        assert_eq!(compliance, COMPLIANCE_FIRST_WORDS);
        for sample in user_set().iter().filter(|sample| sample.kind.is_closed()) {
            let first = sample.answer.split_whitespace().next().unwrap_or_default();
            assert!(compliance.contains(&first), "{}", sample.answer);
        }
    }

    #[test]
    fn it_is_found_by_name() -> Result<()> {
        let entry = vxf_core::registry::find::<dyn JudgeConfig>("world")?;
        let config = vxf_core::registry::default_of::<dyn JudgeConfig>("world")?;
        let written = serde_json::to_value(&config).expect("settings are plain");
        assert_eq!(written, serde_json::json!({ "name": "world" }));
        assert!(config.build(&BuildContext::bare())?.openings().is_some());
        assert!((entry.parse)(serde_json::json!({ "strict": true })).is_err());
        Ok(())
    }
}
