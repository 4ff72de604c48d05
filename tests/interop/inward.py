"""Files written by transformers and peft, loaded by vxf."""

import os, shutil, subprocess, sys

import models, tokens
from program import ROOT

LAYOUTS = [(dtype, sharded) for dtype in models.DTYPES for sharded in [False, True]]


def directories(vxf, place):
    """The largest difference of the logits, for every variant and type, in one file and in several."""
    given = {os.path.basename(it): it for it in tokens.directories(os.path.join(place, "tokenizers"))}
    rows = []
    for name, (_, tokenizer, _) in models.VARIANTS.items():
        found, highest = [], 0.0
        for dtype, sharded in LAYOUTS:
            target = os.path.join(place, "model", "it")
            models.write(name, dtype, sharded, given[tokenizer], target)
            theirs = models.load(target)
            found.append(models.parity(vxf, target, theirs))
            highest = max(highest, models.logits(theirs).abs().max().item())
            shutil.rmtree(target)
        rows.append([name, *found, highest])
        print(f"in: {name}, {max(found):.1e}", flush=True)
    return rows


RECORDED = {
    "llama": ["--rope-scaling", "llama3", "--files", "sharded", "--dtype", "bfloat16"],
    "mistral": ["--window", "7"],
    "qwen2": ["--tied"],
    "qwen3": ["--dtype", "float16"],
    "gemma2": ["--window", "6", "--tied"],
    "gemma3_text": ["--window", "6", "--tied"],
    "phi3": ["--hidden", "32", "--heads", "2", "--partial", "0.75", "--rope-scaling", "longrope",
             "--targets", "qkv_proj,gate_up_proj,down_proj"],
    "opt": ["--post-norm", "--projection", "20", "--targets", "q_proj,v_proj,fc2"],
}


def adapters(vxf, place):
    """Adapters written by peft and trained further: logits, first gradients and losses of five steps of SFT."""
    rows = []
    for family, options in RECORDED.items():
        folder = os.path.join(place, family)
        recorder = os.path.join(ROOT, "tests", "recorder", "record.py")
        command = [sys.executable, recorder, folder, "--name", family, "--family", family, "--runs", "sft", *options]
        subprocess.run(command, check=True, capture_output=True)
        answer = vxf.parity(folder)
        report = answer["report"]
        assert report["runs"] == [f"{family}/sft"] and not report["skipped"], report
        largest = lambda name: report["quantities"][name]["largest"]
        figures = [largest("logits"), largest("first gradient"), largest("loss")]
        rows.append([family, *figures, answer["compared"], answer["passed"]])
        print(f"in: adapter on {family}, {max(figures):.1e}", flush=True)
    return rows
