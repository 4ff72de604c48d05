//! KL: fine-tuning held close to the aligned model's predictions.
