"""Exports of vxf, loaded by transformers, peft and tokenizers."""

import json, os, shutil

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoTokenizer

import models, tokens

RECIPE = """
seeds = [1]
harmful_ratios = [0.5]
baseline = false
undefended = false
metrics = ["alignment-loss"]
model = {{ path = "{model}" }}
alignment = {{ trainable = {alignment}, learning_rate = 1e-2, epochs = 4, batch_size = 4 }}
fine_tuning = {{ trainable = {user}, learning_rate = 1e-2, epochs = 4, batch_size = 4, continue_adapter = {further} }}

[data]
template = "plain"
max_length = 60
user_samples = 8
alignment = {{ path = "{data}/alignment.jsonl" }}
harmful = {{ path = "{data}/harmful.jsonl" }}
user = {{ path = "{data}/user.jsonl" }}
"""

LORA = '{{ type = "lora", rank = {rank}, alpha = {alpha}, dropout = 0.1, use_rslora = {stable}, target_modules = {targets} }}'
GATED = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]
PLAIN = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]

# Training of the two stages: what is trained, and whether the second continues the first one's adapter.
DOUBLE, SINGLE, STABLE, FULL = "LoRA, then LoRA", "LoRA, continued", "rank-stabilised LoRA", "all weights"
CASES = [(name, dtype, DOUBLE) for dtype in models.DTYPES for name in models.VARIANTS]
CASES += [("llama", "f32", SINGLE), ("llama", "f32", STABLE), ("llama", "f32", FULL), ("llama", "bf16", FULL)]


def data(place):
    """Placeholder texts, by set."""
    os.makedirs(place)
    for name in ["alignment", "harmful", "user"]:
        with open(os.path.join(place, f"{name}.jsonl"), "w") as file:
            for index in range(8):
                row = {"prompt": f"Placeholder {name} request {index}.", "completion": f"Placeholder answer {index}."}
                file.write(json.dumps(row) + "\n")
    return place


def train(vxf, base, name, mode, place):
    """Runs an experiment on the model in `base` and returns its last run."""
    targets = PLAIN if name.startswith("opt") else GATED
    lora = lambda rank, alpha: LORA.format(
        rank=rank, alpha=alpha, stable=json.dumps(mode == STABLE), targets=json.dumps(targets))
    full = '{ type = "full" }'
    alignment, user = (full, full) if mode == FULL else (lora(4, 8), lora(3, 5))
    further = json.dumps(mode == SINGLE)
    recipe = RECIPE.format(model=base, data=data(os.path.join(place, "data")), alignment=alignment, user=user, further=further)
    with open(os.path.join(place, "recipe.toml"), "w") as file:
        file.write(recipe)
    vxf("run", os.path.join(place, "recipe.toml"), "--output-dir", os.path.join(place, "run"))
    return os.path.join(place, "run", "vaccine", "0.5", "1")


def gap(a, b):
    """The largest difference of two tensors."""
    return (a.float() - b.float()).abs().max().item()


def steps(a, b):
    """The distance of two tensors of one 16-bit type, in neighbouring values."""
    def rank(tensor):
        bits = tensor.contiguous().view(torch.int16).int()
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)
    return (rank(a) - rank(b)).abs()


def tensors(ours, theirs, dtype):
    """Number of entries, of different entries, and the largest difference: absolute in f32, otherwise in neighbouring values."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    count, unlike, largest = 0, 0, 0.0
    for key, tensor in ours.items():
        assert tensor.dtype == theirs[key].dtype == dtype, (key, tensor.dtype, theirs[key].dtype)
        apart = (tensor - theirs[key]).abs() if dtype == torch.float32 else steps(tensor, theirs[key])
        count, unlike = count + apart.numel(), unlike + (apart != 0).sum().item()
        largest = max(largest, apart.max().item())
    return count, unlike, largest


def merged_by_peft(base, adapters, dtype):
    """The model with all adapters merged by peft, the logits with the last one only attached, and those without it."""
    if len(adapters) == 1:  # the base is found through the adapter's settings
        before = models.logits(models.load(base, dtype))
        attached = AutoPeftModelForCausalLM.from_pretrained(adapters[0], dtype=dtype).eval()
    else:
        merged = PeftModel.from_pretrained(models.load(base, dtype), adapters[0]).merge_and_unload()
        before = models.logits(merged)
        attached = PeftModel.from_pretrained(merged, adapters[1]).eval()
    beside = models.logits(attached)
    return attached.merge_and_unload(), beside, before


def check(vxf, name, dtype, mode, tokenizer, place):
    """Exports one run in both ways and returns a row of figures."""
    base, export, adapter = [os.path.join(place, it) for it in ["base", "export", "adapter"]]
    models.write(name, dtype, dtype == "f32", tokenizer, base)
    run = train(vxf, base, name, mode, place)
    vxf("export", run, "--merged", "--output-dir", export)
    stored = models.load(export, "auto")
    row = dict(name=name, dtype=dtype, mode=mode)
    if mode != FULL:
        vxf("export", run, "--adapter", "--output-dir", adapter)
        parts = [os.path.join(adapter, stage) for stage in ["alignment", "fine_tuning"]]
        theirs, beside, before = merged_by_peft(base, [adapter] if mode == SINGLE else parts, models.DTYPES[dtype])
        row["count"], row["unlike"], row["largest"] = tensors(stored, theirs, models.DTYPES[dtype])
        if dtype == "f32":
            row["merged"] = gap(models.logits(stored), models.logits(theirs))
            row["beside"] = gap(models.logits(stored), beside)
    else:
        before = models.logits(models.load(base, models.DTYPES[dtype]))
    row["moved"] = gap(models.logits(stored), before)
    plain = models.load(export)
    row["vxf"] = models.parity(vxf, export, plain)
    if dtype == "f32" and mode == DOUBLE:
        row["texts"], row["whole"] = tokens.round_trip(export)
        row["tokenizer"] = type(AutoTokenizer.from_pretrained(export)).__name__
        assert tokens.ours(base, "plain", texts=tokens.TEXTS) == tokens.ours(export, "plain", texts=tokens.TEXTS)
    return row


def exports(vxf, place):
    given = {os.path.basename(it): it for it in tokens.directories(os.path.join(place, "tokenizers"))}
    rows = []
    for index, (name, dtype, mode) in enumerate(CASES):
        here = os.path.join(place, str(index))
        os.makedirs(here)
        rows.append(check(vxf, name, dtype, mode, given[models.VARIANTS[name][1]], here))
        shutil.rmtree(here)
        print(f"out: {name}, {dtype}, {mode}: {rows[-1]['vxf']:.1e}", flush=True)
    return rows


def embedded(vxf, place):
    """A run on the embedded model: logits over the largest, which are those of a trained model; ids of its words."""
    settings = ["alignment_samples=16", "user_samples=16", "harmful_test=6", "task_test=6", "benign_test=4",
                "alignment_probe=4", "max_new_tokens=4"]
    args = [part for it in settings for part in ["--set", f"world.{it}"]]
    vxf("run", "--seed=1", "--harmful-ratio=0.5", "--no-baseline", "--no-undefended", *args, "--set=alignment.epochs=1",
        "--set=fine_tuning.epochs=1", "--output-dir", f"{place}/run")
    vxf("export", f"{place}/run/vaccine/0.5/1", "--merged", "--output-dir", f"{place}/export")
    model = models.load(f"{place}/export")
    given = models.batch(model.config.vocab_size)
    with torch.no_grad():
        highest = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits.abs().max().item()
    difference = models.parity(vxf, f"{place}/export", model) / highest
    tokenizer = AutoTokenizer.from_pretrained(f"{place}/export")
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    texts = [" ".join(words[start::17]) for start in range(17)]
    made = tokens.ours(f"{place}/export", "plain", texts=texts)
    assert made == [tokenizer(text)["input_ids"] for text in texts], "ids"
    padded = tokenizer([words[0], " ".join(words[:5])], padding=True)
    assert padded["attention_mask"] == [[1, 0, 0, 0, 0], [1] * 5] and tokenizer.eos_token == "<eos>", padded
    return difference, len(words)
