//! Metrics over losses: alignment loss and perplexity.
