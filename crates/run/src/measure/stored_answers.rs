//! Stored answers of an earlier measurement.

use std::collections::BTreeMap;
use std::path::Path;

use vxf_core::generate::AnswerCache;
use vxf_core::metric::{Generation, Probes, Prompt};
use vxf_report::{Answer, Record};

use crate::Result;
use crate::store::files::read_lines;
use vxf_access::file_digest;

/// The file with a run's answers.
pub(crate) const GENERATIONS: &str = "generations.jsonl";

/// Stored answers that can be reused.
#[derive(Debug, Default)]
pub(crate) struct StoredAnswers {
    /// Sets with an answer to every prompt.
    pub(crate) whole: BTreeMap<String, Vec<Generation>>,
    /// Single answers of the other sets, by set and index.
    pub(crate) single: BTreeMap<(String, usize), String>,
    /// Sets whose stored answers do not match the prompts or generation settings.
    pub(crate) other: Vec<String>,
}

impl StoredAnswers {
    /// Reads the answers in the run directory `place` that match the prompts of `probes` and the digests
    /// in `wanted`. Records without digests are trusted if `same_settings` is set.
    ///
    /// # Errors
    /// When the file is damaged.
    pub(crate) fn read(
        place: &Path,
        record: &Record,
        probes: &Probes,
        wanted: &BTreeMap<String, String>,
        same_settings: bool,
    ) -> Result<Self> {
        let path = place.join(GENERATIONS);
        let mut stored = Self::default();
        if !path.is_file() {
            return Ok(stored);
        }
        // Answers written after the record belong to an unfinished measurement.
        let intact = match &record.answers {
            Some(made) => file_digest(&path)? == made.file,
            None => true,
        };
        if !intact {
            stored.other = probes.questions.keys().cloned().collect();
            return Ok(stored);
        }
        let mut by_set: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
        for answer in read_lines::<Answer>(&path)? {
            by_set.entry(answer.probe.clone()).or_default().push(answer);
        }
        let draws = probes.draws.max(1);
        for (set, questions) in &probes.questions {
            let Some(answers) = by_set.remove(set) else { continue };
            let prompts: Vec<_> = questions
                .prompts
                .iter()
                .flat_map(|prompt| std::iter::repeat_n(prompt, draws))
                .collect();
            let same = match &record.answers {
                Some(made) => made.sets.get(set) == wanted.get(set),
                None => same_settings,
            };
            if !same || !agree(&answers, &prompts) {
                stored.other.push(set.clone());
                continue;
            }
            let made = answers.into_iter().zip(&prompts);
            if made.len() == prompts.len() {
                let made = made.map(|(made, prompt)| Generation {
                    prompt: (*prompt).clone(),
                    answer: made.answer,
                });
                stored.whole.insert(set.clone(), made.collect());
            } else {
                let made = made.enumerate();
                let made = made.map(|(index, (made, _))| ((set.clone(), index), made.answer));
                stored.single.extend(made);
            }
        }
        Ok(stored)
    }
}

/// Whether the answers belong to the first prompts, in order; a prompt is listed once for each answer
/// drawn to it.
fn agree(answers: &[Answer], prompts: &[&Prompt]) -> bool {
    answers.len() <= prompts.len()
        && answers.iter().zip(prompts).all(|(answer, prompt)| answer.prompt == prompt.text)
}

/// Returns single stored answers and stores no new ones.
impl AnswerCache for StoredAnswers {
    fn get(&self, set: &str, index: usize) -> Option<String> {
        self.single.get(&(set.to_owned(), index)).cloned()
    }

    fn store(&self, _: &str, _: &[(usize, String)]) -> vxf_core::Result<()> {
        Ok(())
    }
}
