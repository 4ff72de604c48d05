//! The instruction templates of Alpaca, byte for byte.
//!
//! Taori et al., "Stanford Alpaca", 2023. The published protocol of Vaccine uses them for training and
//! for all prompts. There is neither a space nor a line break after `### Response:`.

use super::TextError;
use crate::sample::{Ask, Role};
use crate::{Error, Result};

/// The text before an answer. An answer ends where the model writes it again.
pub(super) const RESPONSE: &str = "### Response:";

/// The formatted prompt; the answer follows directly.
pub(super) fn ask(ask: &Ask) -> Result<String> {
    let (instruction, input) = instruction("alpaca", ask)?;
    Ok(match input {
        "" => format!(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.\n\n### Instruction:\n{instruction}\n\n{RESPONSE}"
        ),
        input => format!(
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n{RESPONSE}"
        ),
    })
}

/// Instruction and input of a prompt; a single turn by the user is an instruction.
///
/// # Errors
/// When there is more than one turn, or no prompt.
pub(super) fn instruction<'a>(template: &'static str, ask: &'a Ask) -> Result<(&'a str, &'a str)> {
    match ask {
        Ask::Instruction { instruction, input } => Ok((instruction, input)),
        Ask::Messages(turns) => match turns.as_slice() {
            [turn] if turn.role == Role::User => Ok((&turn.content, "")),
            turns => Err(TextError::unfit(
                template,
                format!(
                    "needs a single turn by the user, but the conversation has {} turns (or another \
                     role); use `chat`",
                    turns.len()
                ),
            )),
        },
        Ask::Nothing => Err(nothing(template)),
    }
}

/// The error for plain text, which has no prompt.
pub(super) fn nothing(template: &'static str) -> Error {
    TextError::unfit(template, "needs a prompt, but the sample is plain text without a question")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Message;

    #[test]
    fn templates_are_byte_exact() -> Result<()> {
        assert_eq!(
            ask(&Ask::instruction("Sing."))?,
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nSing.\n\n### Response:"
        );
        let both = Ask::Instruction { instruction: "Say it.".into(), input: "a\nb".into() };
        assert_eq!(
            ask(&both)?,
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nSay it.\n\n### Input:\na\nb\n\n### Response:"
        );
        Ok(())
    }

    #[test]
    fn one_turn_is_an_instruction_and_more_are_rejected() -> Result<()> {
        let turn = |role, content: &str| Message { role, content: content.into() };
        let one = Ask::Messages(vec![turn(Role::User, "Sing.")]);
        assert_eq!(ask(&one)?, ask(&Ask::instruction("Sing."))?);
        let system = vec![turn(Role::System, "Be brief."), turn(Role::User, "Sing.")];
        let error = ask(&Ask::Messages(system)).expect_err("two turns").to_string();
        assert!(error.contains("2 turns") && error.contains("use `chat`"), "{error}");
        assert!(ask(&Ask::Messages(vec![turn(Role::Assistant, "La.")])).is_err());
        let error = ask(&Ask::Nothing).expect_err("nothing").to_string();
        assert!(error.contains("without a question"), "{error}");
        Ok(())
    }
}
