//! Vaccine: perturbation-aware alignment.
