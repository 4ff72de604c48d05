//! Reads `adapter_config.json` and refuses unsupported settings.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};
use vxf_untrusted::{Account, is_off, not_used};

use super::pattern::{Modules, Pattern, listed};
use super::{Parts, Update, fail, merge_first};
use vxf_core::{Lora, Result};

/// Keys that do not change what the finished adapter computes.
const HARMLESS: [&str; 17] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    // Only for layers that store their matrix transposed, which no supported family has.
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "save_embedding_layers",
    "task_type",
    "unsloth_fixed",
    "velora_config",
];

/// Keys that change what the adapter computes, in ways that are not supported.
const UNSUPPORTED: [&str; 12] = [
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "use_mora",
];

/// Initialisations that leave the base unchanged. Others (PiSSA, OLoRA, LoftQ, ...) change it, and the
/// adapter then belongs to the changed base.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// The settings of a supported adapter.
pub(super) struct AdapterConfig {
    rank: usize,
    alpha: f64,
    dropout: f64,
    use_rslora: bool,
    ranks: Pattern,
    alphas: Pattern,
    /// The target modules, if they are a plain list that no other key narrows.
    targets: Option<Vec<String>>,
    /// The expression that the target modules' names match, if that is how they are given.
    expression: Option<Modules>,
    /// Modules and layers that other keys leave out.
    excluded: Option<Modules>,
    layers: Option<Vec<u64>>,
    /// Whether updates have magnitudes.
    dora: bool,
    /// Whether adapters of tied weights are tied, too.
    ties: bool,
    /// The model that it was trained on.
    pub(super) base: Option<String>,
    /// Warnings about unknown keys.
    pub(super) remarks: Vec<String>,
    /// A key that plain LoRA does not have, if one is set.
    pub(super) special: Option<&'static str>,
}

/// The number of the layer that a module is part of.
fn layer_of(module: &str) -> Option<u64> {
    module.split('.').find_map(|part| part.parse().ok())
}

impl AdapterConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or a key asks for something unsupported.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = vxf_untrusted::text(file, vxf_untrusted::SMALL)
            .map_err(|error| fail(file, format!("cannot be read: {error}")))?;
        let config: Map<String, Value> =
            vxf_untrusted::json(&text).map_err(|problem| fail(file, problem))?;
        let directory = file.parent().unwrap_or(file);
        let mut read = Self::of(&config, directory).map_err(|problem| fail(file, problem))?;
        read.remarks
            .iter_mut()
            .for_each(|remark| *remark = format!("{}: {remark}", directory.display()));
        Ok(read)
    }

    fn of(config: &Map<String, Value>, directory: &Path) -> Result<Self, String> {
        let account = Account::of(config);
        let set = |key: &str| account.get(key).filter(|value| !is_off(value));
        match set("peft_type") {
            Some(kind) if kind == "LORA" => {}
            Some(kind) => {
                return Err(format!("`peft_type` = {kind} is not supported; it must be LORA"));
            }
            None => return Err("`peft_type` is missing; it must be LORA".to_owned()),
        }
        if let Some((key, value)) = UNSUPPORTED.iter().find_map(|key| Some((key, set(key)?))) {
            let merge = merge_first(directory);
            return Err(format!("`{key}` = {value} is not supported; {merge}"));
        }
        if let Some(start) = set("init_lora_weights")
            && !start.is_boolean()
            && !start.as_str().is_some_and(|start| PLAIN_STARTS.contains(&start))
        {
            let merge = merge_first(directory);
            return Err(format!(
                "`init_lora_weights` = {start} is not supported: the adapter belongs to a changed \
                 base; {merge}"
            ));
        }
        if let Some(bias) = set("bias").filter(|bias| !bias.is_string()) {
            return Err(format!("`bias` = {bias} must be none, all or lora_only"));
        }
        let number = |key: &str| {
            let value = account.get(key).and_then(Value::as_f64);
            value.ok_or_else(|| format!("`{key}` is missing or not a number"))
        };
        let rank = account.get("r").and_then(Value::as_u64).filter(|rank| *rank > 0);
        let narrowed = ["layers_to_transform", "layers_pattern", "exclude_modules"];
        let narrowed = narrowed.map(|key| set(key).is_some()).contains(&true);
        let list = set("target_modules").and_then(Value::as_array);
        let names = list.and_then(|list| {
            list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        let modules = |key: &str| {
            let read = set(key).map(Modules::read).transpose();
            read.map_err(|problem| format!("`{key}`: {problem}; {}", merge_first(directory)))
        };
        let expression = modules("target_modules")?.filter(|modules| {
            matches!(modules, Modules::Expression(it) if it.as_str() != "^(?:all-linear)$")
        });
        let ranks = Pattern::read("rank_pattern", account.get("rank_pattern"))?;
        let alphas = Pattern::read("alpha_pattern", account.get("alpha_pattern"))?;
        let special = [
            (!ranks.is_empty(), "rank_pattern"),
            (!alphas.is_empty(), "alpha_pattern"),
            (set("use_dora").is_some(), "use_dora"),
        ];
        Ok(Self {
            rank: rank.ok_or("`r` is missing or not a whole number above 0")? as usize,
            alpha: number("lora_alpha")?,
            dropout: if set("lora_dropout").is_some() { number("lora_dropout")? } else { 0.0 },
            use_rslora: set("use_rslora").is_some(),
            ranks,
            alphas,
            // Earlier versions of this program wrote the name of all layers in a list.
            targets: names
                .filter(|names| !narrowed && !names.iter().any(|name| name == "all-linear")),
            expression,
            excluded: modules("exclude_modules")?,
            layers: set("layers_to_transform").map(|layers| match layers.as_array() {
                Some(all) => all.iter().filter_map(Value::as_u64).collect(),
                None => layers.as_u64().into_iter().collect(),
            }),
            dora: set("use_dora").is_some(),
            ties: set("ensure_weight_tying").is_some(),
            base: set("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            special: special.into_iter().find_map(|(set, key)| set.then_some(key)),
            remarks: not_used("adapter_config.json", &account.unread(&HARMLESS))
                .into_iter()
                .collect(),
        })
    }

    /// Why PEFT would not use tensors on `module`, if it would not.
    fn left_out(&self, module: &str) -> Option<String> {
        if let Some(targets) = self.targets.as_ref().filter(|list| !listed(list, module)) {
            return Some(format!("`target_modules` = {targets:?} does not name it"));
        }
        if self.expression.as_ref().is_some_and(|it| !it.name(module)) {
            return Some("the expression in `target_modules` does not match it".to_owned());
        }
        if self.excluded.as_ref().is_some_and(|it| it.name(module)) {
            return Some("`exclude_modules` names it".to_owned());
        }
        let layers = self.layers.as_ref()?;
        let layer = layer_of(module)?;
        (!layers.contains(&layer))
            .then(|| format!("`layers_to_transform` = {layers:?} does not have its layer"))
    }

    /// Target modules without a tensor among these modules.
    pub(super) fn without_tensors<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
    ) -> Vec<String> {
        let modules: Vec<&str> = modules.collect();
        let lacks = |target: &&String| {
            let target = std::slice::from_ref(*target);
            !modules.iter().any(|module| listed(target, module))
        };
        self.targets.iter().flatten().filter(lacks).cloned().collect()
    }

    /// Target modules with tensors in some of the layers among these modules, and the layers where they
    /// have none.
    pub(super) fn uneven<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
    ) -> Vec<(String, Vec<u64>)> {
        if self.layers.is_some() {
            return Vec::new();
        }
        let modules: Vec<(&str, u64)> =
            modules.filter_map(|module| Some((module, layer_of(module)?))).collect();
        let all: BTreeSet<u64> = modules.iter().map(|(_, layer)| *layer).collect();
        let lacks = |target: &String| {
            let one = std::slice::from_ref(target);
            let own = modules.iter().filter(|(module, _)| listed(one, module));
            let own: BTreeSet<u64> = own.map(|(_, layer)| *layer).collect();
            let lacks: Vec<u64> = all.difference(&own).copied().collect();
            (!own.is_empty() && !lacks.is_empty()).then(|| (target.clone(), lacks))
        };
        // A name with a layer's number is of that layer alone.
        let targets = self.targets.iter().flatten().filter(|target| layer_of(target).is_none());
        targets.filter_map(lacks).collect()
    }

    /// The update of `module` from its tensors.
    ///
    /// # Errors
    /// When a matrix is missing or of another rank than the settings say.
    pub(super) fn update(&self, module: &str, parts: Parts) -> Result<Update, String> {
        if self.ties && self.left_out(module).is_some() {
            let problem = "`ensure_weight_tying` ties it to the adapter of another layer, which is \
                           not supported; merge the adapter with peft first";
            return Err(problem.to_owned());
        }
        if let Some(reason) = self.left_out(module) {
            return Err(format!("{reason}, so that PEFT would not use it; correct the key"));
        }
        let [a, b, magnitude] = parts;
        if magnitude.is_some() && !self.dora {
            let problem = "it has a `lora_magnitude_vector`, and `use_dora` is not set; set it, or remove the vector";
            return Err(problem.to_owned());
        }
        let a = a.ok_or("its matrix lora_A is missing")?;
        let b = b.ok_or("its matrix lora_B is missing")?;
        let rank = self.ranks.get(module).map_or(self.rank, |rank| rank as usize);
        match (a.dims(), b.dims()) {
            (&[a_rank, _], &[_, b_rank]) if a_rank == rank && b_rank == rank => {}
            (a, b) => {
                return Err(format!(
                    "its matrices {a:?} and {b:?} are not of the rank `r` = {rank}"
                ));
            }
        }
        if self.dora && magnitude.is_none() {
            return Err("its `lora_magnitude_vector` is missing (`use_dora` is set)".to_owned());
        }
        let magnitude = match magnitude {
            // Older files store the vector as a matrix with one row.
            Some(vector) => Some(vector.flatten_all().map_err(|error| error.to_string())?),
            None => None,
        };
        let alpha = self.alphas.get(module).unwrap_or(self.alpha);
        let root = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok(Update { a, b, scale: alpha / root, magnitude })
    }

    /// Converts to our settings, for an adapter on these modules.
    pub(super) fn lora(self, modules: Vec<String>) -> Lora {
        let Self { rank, alpha, dropout, use_rslora, targets, .. } = self;
        let lora = Lora { rank, alpha, dropout, use_rslora, target_modules: modules.clone() };
        match targets {
            Some(targets) => {
                let plain = Lora { target_modules: targets, ..lora.clone() };
                if modules.iter().all(|module| plain.targets(module)) { plain } else { lora }
            }
            None => lora,
        }
    }
}
