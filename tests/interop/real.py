"""Real checkpoints beside transformers and peft; prints the tables of `docs/interop.md`. Run by hand.

    venv/bin/python tests/interop/real.py --vxf target/release/vxf DIR [DIR ...]

For each model directory: logits in f32 and bf16; greedy answers up to the first near tie; 20 steps of SFT and of Vaccine
with LoRA on the same batches; an export, merged and as adapters, loaded back. Needs torch, transformers, peft.
"""

import argparse, json, os, sys, tempfile, warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "recorder"))
import record
import outward
from program import Vxf

STEPS, ANSWERS, TOKENS = 20, 50, 32
NEAR = 1e-3  # two largest logits that are nearer than this may change places
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]
THINGS = ["bread", "a bicycle", "the moon", "chess", "a garden", "rain", "a violin", "glass", "a bridge", "honey"]
ASKS = ["What is {}?", "Write one sentence about {}.", "Name two uses of {}.", "Where does one find {}?", "Tell a child about {}."]
PROMPTS = [ask.format(thing) for thing in THINGS for ask in ASKS]


def load(place, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(place, dtype=dtype, attn_implementation="eager").eval()


def linked(place, folder, name):
    """A directory with links to the files of a model, and room for recordings."""
    to = Path(folder, name)
    (to / "runs").mkdir(parents=True)
    for file in Path(place).resolve().iterdir():
        if file.is_file():
            (to / file.name).symlink_to(file)
    Path(folder, "manifest.json").write_text(json.dumps({"models": {name: {}}}))
    return to


def batches(tokenizer, count):
    """Right-padded batches of four prompts with made-up answers; the answers have labels."""
    made = []
    for first in range(count):
        rows = []
        for at in range(4):
            ask = PROMPTS[(first * 4 + at) % len(PROMPTS)]
            prompt = tokenizer(ask)["input_ids"]
            answer = tokenizer(f" That is a placeholder, number {first * 4 + at}, of {'some ' * at}length.")["input_ids"]
            rows.append((prompt, answer))
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids, mask, labels = (torch.zeros(4, longest, dtype=torch.long) for _ in range(3))
        labels -= 100
        for row, (prompt, answer) in enumerate(rows):
            whole = prompt + answer
            ids[row, :len(whole)], mask[row, :len(whole)] = torch.tensor(whole), 1
            labels[row, len(prompt):len(whole)] = torch.tensor(answer)
        made.append({"input_ids": ids, "labels": labels, "attention_mask": mask})
    return made


def logits(vxf, place):
    """The largest difference of logits, over the largest logit, in f32 and bf16."""
    tokenizer, found = AutoTokenizer.from_pretrained(place), []
    for name, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
        model = load(place, dtype)
        [given] = batches(tokenizer, 1)
        with torch.no_grad():
            wanted = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits.float()
        highest = wanted[given["attention_mask"].bool()].abs().max().item()
        with tempfile.TemporaryDirectory() as folder:
            to = linked(place, folder, "model")
            save_file(given, to / "batch.safetensors")
            save_file({"logits": wanted.contiguous()}, to / "logits.safetensors")
            answer = json.loads(vxf("parity", folder, "--json", "--dtype", name, may_fail=True))
        found += [answer["report"]["quantities"]["logits"]["largest"] / highest]
        del model
    return found, highest


def answers(vxf, place):
    """Greedy answers: equal ones, those that part at a near tie, and those that part elsewhere."""
    tokenizer, model = AutoTokenizer.from_pretrained(place), load(place)
    chat = tokenizer.chat_template is not None
    args = [part for prompt in PROMPTS[:ANSWERS] for part in ["-p", prompt]]
    template = "chat" if chat else "plain"
    told = json.loads(vxf("generate", place, *args, "--template", template, "--max-new-tokens", TOKENS, "--dtype", "f32", "--json"))
    equal = tied = apart = 0
    for prompt, ours in zip(PROMPTS, told["answers"]):
        turns = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"] if chat else tokenizer(prompt)["input_ids"]
        given = torch.tensor([ids])
        with torch.no_grad():
            made = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=TOKENS, pad_token_id=0,
                                  output_logits=True, return_dict_in_generate=True)
        tokens = made.sequences[0, len(ids):]
        if tokenizer.decode(tokens, skip_special_tokens=True).strip() == ours["answer"]:
            equal += 1
            continue
        # The first place where the texts part, and how near the two best logits are up to there.
        nearest = float("inf")
        for at, scores in enumerate(made.logits):
            best = scores[0].float().topk(2).values
            nearest = min(nearest, (best[0] - best[1]).item())
            text = tokenizer.decode(tokens[:at + 1], skip_special_tokens=True).strip()
            if not ours["answer"].startswith(text):
                break
        tied, apart = (tied + 1, apart) if nearest < NEAR else (tied, apart + 1)
    return equal, tied, apart


def steps(vxf, place):
    """Largest differences in 20 steps of SFT and Vaccine: losses, gradient norms, first gradients."""
    tokenizer, found = AutoTokenizer.from_pretrained(place), []
    with tempfile.TemporaryDirectory() as folder:
        to = linked(place, folder, "model")
        batch, *evaluation = batches(tokenizer, 3)
        save_file({**batch, **{f"eval{i}.{k}": v for i, e in enumerate(evaluation) for k, v in e.items()}}, to / "batch.safetensors")
        base = load(place)
        with torch.no_grad():
            wanted = base(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        save_file({"logits": wanted.contiguous()}, to / "logits.safetensors")
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=TARGETS)
        adapted = get_peft_model(base, lora)
        torch.manual_seed(1)
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.data = torch.randn_like(p) * 0.01
        adapted.save_pretrained(to / "adapter_init")
        fresh = {n: p.detach().clone() for n, p in adapted.named_parameters() if "lora" in n}
        for name, rule, extra in [("sft", "sft", {}), ("vaccine", "vaccine", {"rho": 2.0})]:
            for n, p in adapted.named_parameters():
                if n in fresh:
                    p.data = fresh[n].clone()
            spec = {"lr": 1e-4, "steps": STEPS, "schedule": "constant", "warmup": 0, "adapter": "adapter_init", "name": name,
                    "rule": rule, **extra}
            replay = record.Replay(adapted, batch, evaluation, spec)
            made = replay.run(keep_tensors=False)
            (to / "runs" / f"{name}.json").write_text(json.dumps(made))
            fall = made["steps"][0]["loss_second"] - made["steps"][-1]["loss_second"]
            for other in (to / "runs").glob("*.json"):
                if other.stem != name:
                    other.unlink()
            report = json.loads(vxf("parity", folder, "--json", may_fail=True))["report"]["quantities"]
            largest = lambda quantity: report[quantity]["largest"] if quantity in report else 0.0
            found.append([name, largest("loss"), largest("gradient norm"), largest("hidden gradient norm"), largest("parameter norm"), fall])
    return found


def export(vxf, place):
    """A run on the model, exported merged and as adapters: the largest differences of logits, over the largest."""
    with tempfile.TemporaryDirectory() as folder:
        kept = outward.LORA
        lora = lambda rank, alpha: kept.format(rank=rank, alpha=alpha, stable="false", targets=json.dumps(TARGETS))
        recipe = outward.RECIPE.format(model=place, data=outward.data(f"{folder}/data"), alignment=lora(4, 8), user=lora(3, 5), further="false")
        recipe = recipe.replace("learning_rate = 1e-2, epochs = 4", "learning_rate = 1e-3, epochs = 1")
        Path(folder, "recipe.toml").write_text(recipe)
        vxf("run", f"{folder}/recipe.toml", "--output-dir", f"{folder}/run", "--set", "model.dtype=f32")
        run = f"{folder}/run/vaccine/0.5/1"
        vxf("export", run, "--merged", "--output-dir", f"{folder}/merged")
        vxf("export", run, "--adapter", "--output-dir", f"{folder}/adapter")
        [given] = batches(AutoTokenizer.from_pretrained(place), 1)
        mask = given["attention_mask"].bool()

        def read(model):
            with torch.no_grad():
                return model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits[mask].float()

        base = load(place)
        before = read(base)
        for stage in ["alignment", "fine_tuning"]:
            base = PeftModel.from_pretrained(base, f"{folder}/adapter/{stage}").merge_and_unload()
        by_peft, merged = read(base), read(load(f"{folder}/merged"))
        highest = merged.abs().max().item()
        return outward.gap(by_peft, merged) / highest, outward.gap(before, merged)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--vxf", default="target/release/vxf")
    ap.add_argument("models", nargs="+")
    a = ap.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    vxf = Vxf(a.vxf)
    line = lambda *cells: print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    for place in map(os.path.abspath, a.models):
        print(f"\n{os.path.basename(place)}\n")
        line("what", "figure"), line("---", "---")
        (wide, narrow), highest = logits(vxf, place)
        line("logits in f32, over the largest", f"{wide:.1e} (largest {highest:.1f})")
        line("logits in bf16, over the largest", f"{narrow:.1e}")
        equal, tied, apart = answers(vxf, place)
        line(f"{ANSWERS} greedy answers of {TOKENS} tokens", f"{equal} equal, {tied} part at a near tie, {apart} elsewhere")
        for name, loss, norm, hidden, weights, fall in steps(vxf, place):
            line(f"{STEPS} steps of {name}", f"losses {loss:.1e}, gradient norms {norm:.1e}, hidden gradient norms {hidden:.1e}, "
                 f"weights' norms {weights:.1e}; the loss fell by {fall:.2f}")
        off, moved = export(vxf, place)
        line("export, merged against peft's merge, over the largest", f"{off:.1e} (training changed logits by {moved:.2f})")


if __name__ == "__main__":
    main()
