//! Links the built-in plugins: a crate registers nothing until it is named once.

#[cfg(feature = "adaptive-kl")]
use vxf_adaptive_kl as _;
#[cfg(feature = "answers")]
use vxf_answers as _;
#[cfg(feature = "asft")]
use vxf_asft as _;
#[cfg(feature = "attacks")]
use vxf_attacks as _;
#[cfg(feature = "bds")]
use vxf_bds as _;
#[cfg(feature = "booster")]
use vxf_booster as _;
#[cfg(feature = "constrained-sft")]
use vxf_constrained_sft as _;
#[cfg(feature = "ctrap")]
use vxf_ctrap as _;
#[cfg(feature = "decoder")]
use vxf_decoder as _;
#[cfg(feature = "drift")]
use vxf_drift as _;
#[cfg(feature = "edits")]
use vxf_edits as _;
#[cfg(feature = "ewc")]
use vxf_ewc as _;
#[cfg(feature = "filters")]
use vxf_filters as _;
#[cfg(feature = "judges")]
use vxf_judges as _;
#[cfg(feature = "kl")]
use vxf_kl as _;
#[cfg(feature = "lat")]
use vxf_lat as _;
#[cfg(feature = "layerwise")]
use vxf_layerwise as _;
#[cfg(feature = "ldifs")]
use vxf_ldifs as _;
#[cfg(feature = "lisa")]
use vxf_lisa as _;
#[cfg(feature = "losses")]
use vxf_losses as _;
#[cfg(feature = "one-shot")]
use vxf_one_shot as _;
#[cfg(feature = "pact")]
use vxf_pact as _;
#[cfg(feature = "panacea")]
use vxf_panacea as _;
#[cfg(feature = "proxy")]
use vxf_proxy as _;
#[cfg(feature = "random")]
use vxf_random as _;
#[cfg(feature = "safegrad")]
use vxf_safegrad as _;
#[cfg(feature = "sam")]
use vxf_sam as _;
#[cfg(feature = "sbr")]
use vxf_sbr as _;
#[cfg(feature = "sdd")]
use vxf_sdd as _;
#[cfg(feature = "sft")]
use vxf_sft as _;
#[cfg(feature = "steady")]
use vxf_steady as _;
#[cfg(feature = "surgery")]
use vxf_surgery as _;
#[cfg(feature = "tar")]
use vxf_tar as _;
#[cfg(feature = "unlearn")]
use vxf_unlearn as _;
#[cfg(feature = "vaa")]
use vxf_vaa as _;
#[cfg(feature = "vaccine")]
use vxf_vaccine as _;
#[cfg(feature = "vectors")]
use vxf_vectors as _;
#[cfg(feature = "vlguard")]
use vxf_vlguard as _;
#[cfg(feature = "world")]
use vxf_world as _;
