//! The laws of a backbone fail for backbones that break them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Decoder, Parameter, Part};
use vxf_core::{Backbone, Key, Params, Pass, Result, Rows, Trainable};
use vxf_testkit::backbone::{gradients, trainable, walk};
use vxf_testkit::{Toy, ToyShape};

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    /// Cuts the gradient of a layer, as some fused operations of candle do.
    CutsGradient,
    /// Halves the gradient of a layer.
    WrongGradient,
    /// Lets every position see the whole sequence.
    SeesTheFuture,
    /// Leaves out more than the padding where that is not computed.
    LeavesOutTooMuch,
    /// Draws dropout from something else than the pass's key.
    WildDropout,
    /// Does not start from its own weights.
    WrongStart,
    /// Decodes every token as if it were the first.
    ForgetfulDecoder,
    /// Claims a parameter that it does not use.
    UnusedParameter,
    /// Says that the first layer's parameters are in the last.
    WrongLayer,
    /// Says that the embedding is part of the head.
    WrongPart,
}

/// A toy with a defect.
#[derive(Clone)]
struct Broken {
    toy: Arc<dyn Backbone>,
    defect: Defect,
    draws: Arc<std::sync::atomic::AtomicU64>,
}

fn broken(defect: Defect) -> impl Fn(DType) -> Arc<dyn Backbone> {
    move |dtype| {
        let toy = Toy::new(&ToyShape::default(), dtype, 3).expect("a toy");
        Arc::new(Broken { toy: Arc::new(toy), defect, draws: Arc::default() })
    }
}

impl Backbone for Broken {
    fn architecture(&self) -> &Architecture {
        self.toy.architecture()
    }

    fn device(&self) -> &Device {
        self.toy.device()
    }

    fn dtype(&self) -> DType {
        self.toy.dtype()
    }

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.toy.embed(tokens, pass)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let out = self.toy.block(layer, hidden, pass)?;
        match self.defect {
            Defect::CutsGradient if layer == 0 => Ok(out.detach()),
            Defect::WrongGradient if layer == 0 => {
                Ok((out.detach() + (&out - out.detach())? * 0.5)?)
            }
            Defect::LeavesOutTooMuch if !pass.rows().is_rectangle() => Ok(hidden.clone()),
            Defect::SeesTheFuture => Ok(out.broadcast_add(&out.mean_keepdim(0)?)?),
            Defect::WildDropout => {
                let draw = self.draws.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let (width, rows) = (out.dim(1)?, pass.rows());
                let mask = Key::root(draw).mask(0.3, rows, width, out.dtype(), out.device())?;
                Ok((&out * mask.factors(out.dtype())?)?)
            }
            _ => Ok(out),
        }
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.toy.head(hidden, pass)
    }

    fn decoder<'a>(&'a self, weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        let forgetful = Forgetful { toy: &*self.toy, weights };
        (self.defect == Defect::ForgetfulDecoder).then_some(Box::new(forgetful))
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut all = self.toy.parameters();
        for parameter in &mut all {
            match (self.defect, parameter.layer, parameter.part) {
                (Defect::WrongLayer, Some(0), _) => parameter.layer = Some(1),
                (Defect::WrongPart, None, Part::Embedding) => parameter.part = Part::Head,
                _ => {}
            }
        }
        if self.defect == Defect::UnusedParameter {
            all.push(Parameter::new("unused.weight", vec![2, 2], true));
        }
        all
    }

    fn initial(&self, key: &Key) -> Result<Params> {
        let mut start = self.toy.initial(key)?;
        match self.defect {
            Defect::WrongStart => start.scale(2.0),
            Defect::UnusedParameter => {
                let unused = key.normal(&[2, 2], self.dtype(), self.device())?;
                start.insert("unused.weight", unused);
                Ok(start)
            }
            _ => Ok(start),
        }
    }

    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        Ok(Arc::new(Self { toy: self.toy.with_trainable(trainable)?, ..self.clone() }))
    }

    fn trainable(&self) -> &Trainable {
        self.toy.trainable()
    }

    fn tensors(&self) -> Params {
        self.toy.tensors()
    }
}

struct Forgetful<'a> {
    toy: &'a dyn Backbone,
    weights: &'a Params,
}

impl Decoder for Forgetful<'_> {
    fn advance(&mut self, tokens: &Tensor, rows: &Rows) -> Result<Tensor> {
        let pass = Pass::new(self.weights, rows);
        let mut hidden = self.toy.embed(tokens, &pass)?;
        for layer in 0..self.toy.architecture().layers {
            hidden = self.toy.block(layer, &hidden, &pass)?;
        }
        self.toy.head(&rows.last_of_each(&hidden)?, &pass)
    }
}

fn refused(law: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(law)).is_err(), "the law accepted a broken backbone");
}

#[test]
fn each_defect_is_found() {
    refused(|| gradients::every_parameter_has_its_gradient(broken(Defect::CutsGradient)));
    refused(|| gradients::every_parameter_has_its_gradient(broken(Defect::WrongGradient)));
    refused(|| gradients::every_parameter_has_its_gradient(broken(Defect::UnusedParameter)));
    refused(|| gradients::site_gradients_are_right(broken(Defect::CutsGradient)));
    refused(|| gradients::site_gradients_are_right(broken(Defect::WrongGradient)));
    refused(|| gradients::block_by_block_is_one_graph_to_the_bit(broken(Defect::WildDropout)));
    refused(|| gradients::computes_only_requested_gradients(broken(Defect::CutsGradient)));
    refused(|| gradients::a_subset_has_the_gradients_of_all(broken(Defect::WrongLayer)));
    refused(|| gradients::a_subset_has_the_gradients_of_all(broken(Defect::WrongPart)));
    refused(|| gradients::every_layout_is_the_same_step(broken(Defect::LeavesOutTooMuch)));
    refused(|| walk::does_not_see_the_future(broken(Defect::SeesTheFuture)));
    refused(|| walk::padding_is_inert(broken(Defect::SeesTheFuture)));
    refused(|| walk::recompute_draws_the_same_dropout(broken(Defect::WildDropout)));
    refused(|| walk::decoding_is_the_forward_pass(broken(Defect::ForgetfulDecoder)));
    refused(|| trainable::starting_weights_fit(broken(Defect::WrongStart)));
    refused(|| trainable::adapters_are_on_their_target_layers(broken(Defect::UnusedParameter)));
}
