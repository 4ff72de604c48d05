//! The data type that a model computes in, as settings name it.

use candle_core::DType;
use serde::{Deserialize, Serialize};

/// The data type that a model computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[serde(alias = "float32")]
    F32,
    /// 64-bit floats, for checks.
    #[serde(alias = "float64")]
    F64,
    /// bfloat16.
    #[serde(alias = "bfloat16")]
    Bf16,
    /// 16-bit floats.
    #[serde(alias = "float16")]
    F16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F64 => Self::F64,
            Precision::Bf16 => Self::BF16,
            Precision::F16 => Self::F16,
        }
    }
}
