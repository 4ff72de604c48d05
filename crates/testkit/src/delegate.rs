//! Delegation from a wrapper to its backbone.

/// The methods of `Backbone` that describe a model, delegated to a field.
macro_rules! describe_as {
    ($inner:ident) => {
        fn architecture(&self) -> &vxf_core::backbone::Architecture {
            self.$inner.architecture()
        }

        fn device(&self) -> &candle_core::Device {
            self.$inner.device()
        }

        fn dtype(&self) -> candle_core::DType {
            self.$inner.dtype()
        }

        fn parameters(&self) -> Vec<vxf_core::backbone::Parameter> {
            self.$inner.parameters()
        }

        fn initial(&self, key: &vxf_core::Key) -> vxf_core::Result<vxf_core::Params> {
            self.$inner.initial(key)
        }

        fn with_trainable(
            &self,
            trainable: &vxf_core::Trainable,
        ) -> vxf_core::Result<std::sync::Arc<dyn vxf_core::Backbone>> {
            self.$inner.with_trainable(trainable)
        }

        fn trainable(&self) -> &vxf_core::Trainable {
            self.$inner.trainable()
        }

        fn tensors(&self) -> vxf_core::Params {
            self.$inner.tensors()
        }
    };
}
