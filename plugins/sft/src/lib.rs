//! Defences `none` and `sft`: the baselines.
