"""Records steps of the reference rules in PyTorch, in the layout that `vxf parity` replays.

    python record.py OUTPUT_DIR --name odd --hidden 36 --heads 3 --kv-heads 1 --head-dim 16 --vocab 131
    python record.py OUTPUT_DIR --name opt_odd --family opt --post-norm --projection 20 --files sharded-bin

Written from the formulas, independent of both vxf and the official trainer: stock transformers model,
stock PEFT adapter, stock AdamW; only the two-pass rule is spelled out here. Needs torch,
transformers, peft and safetensors. One invocation adds one model directory and its manifest entry.
"""
import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

WEIGHTS = dict(beta=(0.9, 0.999), eps=1e-8, decay=0.1, clip=1.0)


def arguments():
    ap = argparse.ArgumentParser()
    ap.add_argument("output", type=Path)
    ap.add_argument("--name", default="odd")
    for flag, default in [("hidden", 36), ("layers", 3), ("heads", 3), ("kv-heads", 1), ("head-dim", 16),
                          ("inner", 50), ("vocab", 131), ("batch", 3), ("seq", 21), ("rank", 5), ("seed", 7)]:
        ap.add_argument("--" + flag, type=int, default=default)
    ap.add_argument("--family", default="llama", choices=["llama", "mistral", "qwen2", "qwen3", "opt", "gemma2", "gemma3_text", "phi3"])
    ap.add_argument("--alpha", type=float, default=10.0)
    ap.add_argument("--rope-theta", type=float, default=500.0)
    ap.add_argument("--rope-scaling", choices=["linear", "llama3", "yarn", "longrope"])
    ap.add_argument("--partial", type=float, default=1.0, help="phi3: rotated part of a head")
    ap.add_argument("--norm-eps", type=float, default=3e-5)
    ap.add_argument("--window", type=int, help="keys that a query sees (mistral, phi3: all layers; qwen: the last one; gemma: the first of each two or three)")
    ap.add_argument("--post-norm", action="store_true", help="opt: norms after the residual sums")
    ap.add_argument("--projection", type=int, help="opt: width of the token embeddings")
    ap.add_argument("--tied", action="store_true")
    ap.add_argument("--targets", default="q_proj,v_proj,down_proj")
    ap.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the file")
    ap.add_argument("--files", default="safetensors", choices=["safetensors", "sharded", "bin", "sharded-bin"])
    ap.add_argument("--without-prefix", action="store_true", help="store names without their leading `model.`")
    ap.add_argument("--runs", default="", help="names of the runs to keep, all if not given")
    return ap.parse_args()


def base_config(a):
    common = dict(hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads, vocab_size=a.vocab,
                  max_position_embeddings=64, tie_word_embeddings=a.tied, attn_implementation="eager")
    if a.family == "opt":
        return AutoConfig.for_model("opt", ffn_dim=a.inner, do_layer_norm_before=not a.post_norm, dropout=0.0,
                                    word_embed_proj_dim=a.projection or a.hidden, **common)
    rope = {"rope_theta": a.rope_theta, "rope_type": a.rope_scaling or "default"}
    if a.rope_scaling:
        rope["factor"] = 4.0
    if a.rope_scaling == "llama3":  # bounds within the wavelengths of these few positions
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    if a.rope_scaling == "yarn":
        rope["original_max_position_embeddings"] = 16
    if a.rope_scaling == "longrope":  # sequences of 21 are long ones
        half = int(a.head_dim * a.partial) // 2
        rope |= {"short_factor": [1.0 + 0.1 * i for i in range(half)], "long_factor": [1.5 + 0.3 * i for i in range(half)]}
        rope |= {"original_max_position_embeddings": 16}
        common["original_max_position_embeddings"] = 16
    windows = {} if a.window is None else {"sliding_window": a.window}
    if a.family.startswith("gemma"):  # small caps, so that they matter
        windows |= {"query_pre_attn_scalar": 24, "hidden_activation": "gelu_pytorch_tanh"}
    if a.family == "gemma2":
        windows |= {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 3.0}
    if a.family == "gemma3_text":
        kinds = ["sliding_attention", "sliding_attention", "full_attention"]
        windows |= {"layer_types": [kinds[i % 3] for i in range(a.layers)]}
        rope = {"full_attention": rope, "sliding_attention": {"rope_theta": 70.0, "rope_type": "default"}}
    if a.family == "phi3":
        rope["partial_rotary_factor"] = a.partial
        common["pad_token_id"] = 0
    if a.family in ("qwen2", "qwen3"):
        windows |= {"use_sliding_window": a.window is not None, "max_window_layers": a.layers - 1}
    elif a.family == "mistral":
        windows = {"sliding_window": a.window}
    return AutoConfig.for_model(a.family, num_key_value_heads=a.kv_heads, head_dim=a.head_dim, intermediate_size=a.inner,
                                rms_norm_eps=a.norm_eps, rope_parameters=rope, **windows, **common)


def base_model(a):
    torch.manual_seed(a.seed)
    model = AutoModelForCausalLM.from_config(base_config(a), attn_implementation="eager").float()
    with torch.no_grad():  # larger than the default initialisation, so that gradients are not all alike
        for name, p in model.named_parameters():
            drawn = torch.randn_like(p) * (0.1 if name.endswith("bias") else 0.2)
            middle = 0.0 if a.family.startswith("gemma") else 1.0  # Gemma adds one to what is stored
            gain = torch.rand_like(p) - 0.5 + middle
            p.copy_(gain if "norm" in name and name.endswith("weight") else drawn)
            p.copy_(p.to(getattr(torch, a.dtype)))
    return model


def write_model(a, folder, state):
    """Writes the weights in the requested format; with several files, the tensors are split in the middle."""
    stored = {k: v.to(getattr(torch, a.dtype)).contiguous() for k, v in state.items()}
    if a.without_prefix:
        stored = {k.removeprefix("model."): v for k, v in stored.items()}
    pickle = a.files.endswith("bin")
    save = torch.save if pickle else lambda tensors, file: save_file(tensors, file, metadata={"format": "pt"})
    stem, suffix = ("pytorch_model", "bin") if pickle else ("model", "safetensors")
    if not a.files.startswith("sharded"):
        return save(stored, folder / f"{stem}.{suffix}")
    names, weight_map = list(stored), {}
    for index, part in enumerate([names[: len(names) // 2], names[len(names) // 2 :]]):
        file = f"{stem}-{index + 1:05}-of-00002.{suffix}"
        save({name: stored[name].clone() for name in part}, folder / file)
        weight_map |= {name: file for name in part}
    total = sum(v.numel() * v.element_size() for v in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=1))


def make_batch(a, generator):
    ids = torch.randint(1, a.vocab, (a.batch, a.seq), generator=generator)
    mask, labels = torch.ones_like(ids), ids.clone()
    for row in range(a.batch):
        length = a.seq - (row * 5) % (a.seq // 2)
        mask[row, length:], ids[row, length:] = 0, 0
        labels[row, length:] = -100
        labels[row, : 3 + row] = -100
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def mean_loss(logits, labels):
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.size(-1)), labels[:, 1:].reshape(-1), ignore_index=-100)


class Replay:
    """One training rule on one model, with its sites, optimiser and records."""

    def __init__(self, model, batch, evaluation, spec):
        self.model, self.batch, self.evaluation, self.spec = model, batch, evaluation, spec
        self.site_names = [n for n, _ in model.named_modules() if n.endswith("self_attn")]
        self.sites = [model.get_submodule(n) for n in self.site_names]
        self.trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        spared = lambda n: "norm" in n or n.endswith("bias")
        plain = [p for n, p in self.trained if spared(n)]
        rest = [p for n, p in self.trained if not spared(n)]
        groups = [{"params": rest, "weight_decay": WEIGHTS["decay"]}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=spec["lr"], betas=WEIGHTS["beta"], eps=WEIGHTS["eps"])
        self.tensors, self.steps = {}, []

    def name(self, name):
        return name.replace("base_model.model.", "").replace(".default.weight", "").replace(".base_layer", "")

    def forward(self, batch, added=None, probes=None):
        hooks = []
        for index, site in enumerate(self.sites):
            def hook(_m, _i, out, index=index):
                value = out[0]
                if added is not None:
                    value = value + added[index]
                if probes is not None:
                    value = value + probes[index]
                return (value, *out[1:])
            hooks.append(site.register_forward_hook(hook))
        logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        for hook in hooks:
            hook.remove()
        return logits

    def attention_outputs(self, batch):
        seen, hooks = [], []
        for site in self.sites:
            hooks.append(site.register_forward_hook(lambda _m, _i, out: seen.append(out[0].detach())))
        with torch.no_grad():
            self.model(input_ids=batch["input_ids"], use_cache=False)
        for hook in hooks:
            hook.remove()
        return seen

    def gradient(self, loss):
        return torch.autograd.grad(loss, [p for _, p in self.trained])

    def rate(self, step):
        s = self.spec
        if step < s["warmup"]:
            return s["lr"] * step / s["warmup"]
        if s["schedule"] == "constant":
            return s["lr"]
        progress = (step - s["warmup"]) / max(1, s["steps"] - s["warmup"])
        return s["lr"] * (0.5 * (1 + math.cos(math.pi * progress)) if s["schedule"] == "cosine" else 1 - progress)

    def run(self, keep_tensors):
        s, b = self.spec, self.batch
        start = {n: p.detach().clone() for n, p in self.trained}
        initial = [self.attention_outputs(e) for e in self.evaluation]
        shape = (*b["input_ids"].shape, self.model.config.hidden_size)
        fisher, leak, teacher = None, None, None
        if s["rule"] == "ewc":
            for e in self.evaluation:
                leak = self.gradient(mean_loss(self.forward(e), e["labels"]))
                fisher = [g**2 if fisher is None else f + g**2 for g, f in zip(leak, fisher or leak)]
            self.tensors |= {"fisher." + self.name(n): f for (n, _), f in zip(self.trained, fisher)}
        if s["rule"] == "kl":
            teacher = self.forward(b).detach()
        for step in range(s["steps"]):
            row, added = {"lr": self.rate(step)}, None
            if s["rule"] == "vaccine":
                probes = [torch.zeros(shape, requires_grad=True) for _ in self.sites]
                loss = mean_loss(self.forward(b, probes=probes), b["labels"])
                grads = torch.autograd.grad(loss, probes)
                norm = torch.stack([g.norm() for g in grads]).norm()
                added = [g * (s["rho"] / (norm + 1e-7)) for g in grads]
                row |= {"loss_first": loss.item(), "hidden_grad_norm_global": norm.item(),
                        "hidden_grad_norm_per_layer": [g.norm().item() for g in grads]}
                if step == 0 and keep_tensors:
                    self.tensors |= {f"perturbation.step1.layer{i}": e for i, e in enumerate(added)}
            if s["rule"] == "random":
                noise = [torch.randn(shape) for _ in self.sites]
                added = [math.sqrt(s["rho"]) * n for n in noise]
                self.tensors |= {f"noise.step{step + 1}.layer{i}": n for i, n in enumerate(noise)}
            logits = self.forward(b, added=added)
            loss = mean_loss(logits, b["labels"])
            if s["rule"] == "ewc":
                loss = loss + s["lamb"] * sum((f * (p - start[n]) ** 2).sum() for (n, p), f in zip(self.trained, fisher))
            if s["rule"] == "kl":
                loss = loss + s["lamb"] * F.kl_div(F.log_softmax(logits, 1), F.softmax(teacher, 1), reduction="batchmean")
            grads = self.gradient(loss)
            if leak is not None and step == 0:
                grads = [g + x for g, x in zip(grads, leak)]
            for (n, p), g in zip(self.trained, grads):
                p.grad = g.clone()
                if step == 0 and keep_tensors:
                    self.tensors["grad.step1." + self.name(n)] = g.clone()
            norm = torch.nn.utils.clip_grad_norm_([p for _, p in self.trained], WEIGHTS["clip"])
            for group in self.optimizer.param_groups:
                group["lr"] = row["lr"]
            self.optimizer.step()
            self.steps.append(row | {"loss_second": loss.item(), "param_grad_norm": norm.item()})
            if keep_tensors and step + 1 in (1, s["steps"]):
                self.tensors |= {f"step{step + 1}.{self.name(n)}": p.detach().clone() for n, p in self.trained}
        drift = sum((x - y).double().pow(2).sum().item()
                    for e, before in zip(self.evaluation, initial) for x, y in zip(self.attention_outputs(e), before))
        record = {"spec": s, "steps": self.steps, "drift_final_vs_initial": drift, "perturbed_modules": self.site_names}
        if not keep_tensors:
            # A bias on keys changes no attention: its gradient is rounding noise, which Adam makes into steps.
            kept = [(n, p) for n, p in self.trained if not n.endswith("k_proj.bias")]
            record["param_l2_after"] = {self.name(n): p.norm().item() for n, p in kept}
        return record


def main():
    a = arguments()
    folder = a.output / a.name
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    base = base_model(a)
    config = json.loads(base.config.to_json_string(use_diff=False))
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    state = {k: v.clone().contiguous() for k, v in base.state_dict().items() if not (a.tied and k == "lm_head.weight")}
    write_model(a, folder, state)
    generator = torch.Generator().manual_seed(a.seed + 1)
    batch, *evaluation = [make_batch(a, generator) for _ in range(3)]
    save_file({**batch, **{f"eval{i}.{k}": v for i, e in enumerate(evaluation) for k, v in e.items()}}, folder / "batch.safetensors")
    with torch.no_grad():
        logits = base(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")

    lora = LoraConfig(r=a.rank, lora_alpha=a.alpha, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=a.targets.split(","))
    adapted = get_peft_model(base, lora)
    torch.manual_seed(a.seed + 2)
    for n, p in adapted.named_parameters():  # an adapter in use: B is not zero
        if "lora_B" in n:
            p.data = torch.randn_like(p) * 0.05
    adapted.save_pretrained(folder / "adapter_init", safe_serialization=not a.files.endswith("bin"))
    fresh = {n: p.detach().clone() for n, p in adapted.named_parameters() if "lora" in n}
    runs = [("sft", "sft", {}, "constant", 0), ("vaccine_rho2", "vaccine", {"rho": 2.0}, "constant", 0),
            ("vaccine_rho0p1_linear", "vaccine", {"rho": 0.1}, "linear", 2), ("vaccine_rho1_cosine", "vaccine", {"rho": 1.0}, "cosine", 2),
            ("random_rho0p01", "random", {"rho": 0.01}, "constant", 0), ("ewc_lamb1e2", "ewc", {"lamb": 1e2}, "constant", 0),
            ("kl_lamb0p1", "kl", {"lamb": 0.1}, "constant", 0)]
    for adapter in ("adapter_init", None):
        for name, rule, extra, schedule, warmup in runs:
            if adapter is None:
                if rule not in ("sft", "vaccine") or schedule != "constant":
                    continue
                adapted = adapted.unload() if hasattr(adapted, "unload") else adapted
                name, model = "full_" + name, adapted
                model.load_state_dict(state, strict=False)
                model.requires_grad_(True)
            else:
                model = adapted
                for n, p in model.named_parameters():
                    if n in fresh:
                        p.data = fresh[n].clone()
            if a.runs and name not in a.runs.split(","):
                continue
            spec = {"lr": 1e-3, "steps": 1 if rule == "random" else 5, "schedule": schedule, "warmup": warmup, "adapter": adapter,
                    "name": name, "rule": rule, **extra}
            replay = Replay(model, batch, evaluation, spec)
            record = replay.run(keep_tensors=adapter is not None)
            (folder / "runs" / f"{name}.json").write_text(json.dumps(record, indent=1))
            if replay.tensors:
                save_file({k: v.contiguous() for k, v in replay.tensors.items()}, folder / "runs" / f"{name}.safetensors")
    manifest = a.output / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else {"models": {}}
    entries["models"][a.name] = {"recorded_with": torch.__version__}
    manifest.write_text(json.dumps(entries, indent=1))


if __name__ == "__main__":
    main()
