//! Greedy generation.

use std::time::Instant;

use candle_core::Tensor;
use serde_json::{Value, json};
use vxf_core::{Params, Result, Rows};

use crate::Args;
use crate::probes::median;
use crate::size::Size;

/// Times the answers to one batch of prompts.
pub(crate) fn generation(args: &Args, size: &Size, tokens: usize) -> Result<Value> {
    let backbone = size.model(args, 0)?.load()?;
    let weights = Params::new();
    // Prompts of 32 tokens, or of real lengths.
    let examples = size.examples(0);
    let prompts = examples.iter().take(size.batch).map(|example| match size.lengths {
        None => &example.tokens[..32],
        Some(_) => &example.tokens[..],
    });
    let lengths = Rows::dense(&prompts.clone().map(<[u32]>::len).collect::<Vec<_>>());
    let prompts = Tensor::new(prompts.collect::<Vec<_>>().concat(), backbone.device())?;
    let single = Rows::rectangle(size.batch, 1);
    let mut times = Vec::new();
    for _ in 0..args.steps {
        let begin = Instant::now();
        let mut decoder = backbone.decoder(&weights).expect("a decoder with a cache");
        let mut next = decoder.advance(&prompts, &lengths)?.argmax(1)?;
        for _ in 1..tokens {
            next = decoder.advance(&next, &single)?.argmax(1)?;
        }
        backbone.device().synchronize()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    let middle = median(&mut times);
    Ok(json!({
        "shape": args.shape, "batch": size.batch, "generated": tokens, "threads": args.threads,
        "median_s": middle, "min_s": times[0], "max_s": times[times.len() - 1],
        "tokens_per_s": (size.batch * tokens) as f64 / middle,
    }))
}
