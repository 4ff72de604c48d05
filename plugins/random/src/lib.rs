//! Random perturbation: the reference's control.
