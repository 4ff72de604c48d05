//! Links the built-in plugins: a crate registers nothing until it is named once.

#[cfg(feature = "answers")]
use vxf_answers as _;
#[cfg(feature = "decoder")]
use vxf_decoder as _;
#[cfg(feature = "drift")]
use vxf_drift as _;
#[cfg(feature = "ewc")]
use vxf_ewc as _;
#[cfg(feature = "judges")]
use vxf_judges as _;
#[cfg(feature = "kl")]
use vxf_kl as _;
#[cfg(feature = "losses")]
use vxf_losses as _;
#[cfg(feature = "random")]
use vxf_random as _;
#[cfg(feature = "sft")]
use vxf_sft as _;
#[cfg(feature = "vaccine")]
use vxf_vaccine as _;
#[cfg(feature = "world")]
use vxf_world as _;
