//! What prompts end with: the tokens with which a template begins an answer.

use std::collections::BTreeMap;

/// The share of the prompts that must end alike: a few may be cut off, or have a token that spans the border.
const ALIKE: f64 = 0.9;

/// The number of last tokens that nearly all prompts have in common.
pub(crate) fn common_ending(prompts: &[Vec<u32>]) -> usize {
    let enough = ALIKE * prompts.len() as f64;
    let mut alike: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    for length in 0.. {
        let mut by_token: BTreeMap<u32, Vec<&[u32]>> = BTreeMap::new();
        for prompt in alike {
            if let Some(token) = prompt.iter().nth_back(length) {
                by_token.entry(*token).or_default().push(prompt);
            }
        }
        let most = by_token.into_values().max_by_key(Vec::len).unwrap_or_default();
        if most.is_empty() || (most.len() as f64) < enough {
            return length;
        }
        alike = most;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_what_nearly_all_prompts_share() {
        let mut prompts: Vec<Vec<u32>> = (0..18).map(|at| vec![1, 20 + at, 7, 8, 9]).collect();
        assert_eq!(common_ending(&prompts), 3);
        // One that is cut off does not count, many that differ do.
        prompts.push(vec![1, 5]);
        assert_eq!(common_ending(&prompts), 3);
        prompts.extend((0..9).map(|at| vec![1, 20 + at, 6, 8, 9]));
        assert_eq!(common_ending(&prompts), 2);
        assert_eq!(common_ending(&[vec![1, 2], vec![1, 2]]), 2);
        assert_eq!((common_ending(&[]), common_ending(&[vec![], vec![]])), (0, 0));
    }
}
