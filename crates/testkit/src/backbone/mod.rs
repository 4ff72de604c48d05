//! Laws of a backbone: complete and correct gradients, every site visited, no leaks.

pub mod gradients;
pub mod trainable;
pub mod walk;

use proptest::prelude::*;
use vxf_core::{Backbone, Batch, Key, Padding, Result, Site, SiteKind, SiteSelection};

use crate::batches::{Rows, paddings};

/// All sites of a model.
pub(crate) fn all_sites(backbone: &dyn Backbone) -> Result<Vec<Site>> {
    let names = ["embedding", "attention_output", "mlp_output", "block_output"];
    let selection = SiteSelection::try_from(names.map(str::to_owned).to_vec())?;
    selection.resolve(backbone.architecture().layers)
}

/// The sites of a model in the order of a forward pass.
pub(crate) fn forward_order(backbone: &dyn Backbone) -> Vec<Site> {
    let kinds = [SiteKind::AttentionOutput, SiteKind::MlpOutput, SiteKind::BlockOutput];
    let layers = 0..backbone.architecture().layers;
    let in_layers = layers.flat_map(|layer| kinds.map(|kind| Site { layer, kind }));
    [Site::EMBEDDING].into_iter().chain(in_layers).collect()
}

/// Random samples, padding left out, hidden or seen.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    rows: usize,
    longest: usize,
    padding: Padding,
    pub(crate) seed: u64,
}

impl Samples {
    pub(crate) fn batch(&self, backbone: &dyn Backbone) -> Result<Batch> {
        let architecture = backbone.architecture();
        let longest = self.longest.min(architecture.positions);
        let key = Key::root(self.seed);
        Rows::random(self.rows, longest, architecture.vocabulary, &key)
            .with_padding(self.padding)
            .batch(backbone.device())
    }
}

pub(crate) fn samples() -> impl Strategy<Value = Samples> {
    (1usize..=3, 3usize..=7, paddings(), any::<u64>())
        .prop_map(|(rows, longest, padding, seed)| Samples { rows, longest, padding, seed })
}

/// Turns the laws of a backbone into tests.
///
/// Takes a name for their module, and a function from a candle type (F32 or F64) to the model, with
/// the same weights in both: `backbone_laws!(grouped_queries, |dtype| my_model(dtype));`
#[macro_export]
macro_rules! backbone_laws {
    ($module:ident, $make:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $crate::backbone_laws! { @ gradients $make =>
                every_parameter_has_its_gradient
                site_gradients_are_right
                block_by_block_is_one_graph_to_the_bit
                computes_only_requested_gradients
                a_subset_has_the_gradients_of_all
                every_layout_is_the_same_step
            }
            $crate::backbone_laws! { @ walk $make =>
                visits_every_site_once
                does_not_see_the_future
                padding_is_inert
                recompute_draws_the_same_dropout
                decoding_is_the_forward_pass
            }
            $crate::backbone_laws! { @ trainable $make =>
                starting_weights_fit
                adapters_are_on_their_target_layers
            }
        }
    };
    (@ $group:ident $make:expr => $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::backbone::$group::$law($make);
            }
        )*
    };
}
