//! EWC: elastic weight consolidation against the user's fine-tuning.
