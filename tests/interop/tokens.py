"""Token ids of vxf-data against those of transformers and tokenizers, on tiny tokenizers made here."""

import datetime, json, os, random, re, tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers
import transformers.utils.chat_template_utils as chat_utils
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre, processors, trainers
from transformers import AutoTokenizer

from program import ROOT, example

transformers.logging.set_verbosity_error()


class Day(datetime.datetime):
    """The date that vxf gives to every template."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_utils.datetime = Day
random.seed(1)

# The split patterns and chat templates are those of the Rust tests.
tests = os.path.join(ROOT, "crates", "data", "tests", "text")
source = open(os.path.join(tests, "chat.rs")).read()
TEMPLATES = {
    name: text.encode().decode("unicode_escape")
    for name, text in re.findall(r'const (\w+): &str = "((?:[^"\\]|\\.)*)";', source)
}
source = open(os.path.join(tests, "models.rs")).read()
REGEX = dict(re.findall(r'const (\w+): &str\s*=\s*r"(.*)";', source))

PIECES = ["the", "Sorry", " I cannot", "Below is", "\n", "\n\n", " ", "   ", "\t", "  \n ", " \r\n", "x" * 7, "don't",
          "WE'LL", "I'm", " 123456789", "12", "3.5e-7", "Straße", "naïve", "e\u0301", "漢字テスト", "привет", "😀🎉",
          "👩\u200d👩\u200d👧", "\u00a0", "\u3000", "\u2028", "\x0b", "\x85", "</s>", "<s>", "<|eot_id|>", "<|im_end|>",
          "### Response:", "[INST]", "<b>&\"'", "<0x0A>", "▁", "Ġ", "∞ ½ Ⅷ ²", "\x00", "ſ K", "İ", "!!!???", "...\n..."]
RANGES = [(0, 0x2FF), (0x2000, 0x206F), (0x3000, 0x30FF), (0x1F300, 0x1F6FF)]
mixed = ["".join(random.choice(PIECES) for _ in range(random.randint(1, 25))) for _ in range(400)]
odd = ["".join(chr(random.randint(*random.choice(RANGES))) for _ in range(30)) for _ in range(200)]
TEXTS = ["", "a", " a", "a ", "\n", *mixed, *odd, " " * 5000 + "x", "a" * 3000, "\n" * 2000 + "."]
CORPUS = ["".join(random.choice(PIECES) for _ in range(30)) for _ in range(2000)]


def pick():
    return random.choice(mixed)[:80]


def write(place, **files):
    os.makedirs(place)
    for name, content in files.items():
        name = name.replace("__", ".")
        with open(os.path.join(place, name), "w") as file:
            file.write(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    return place


def byte_bpe(split, first=(), normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    level = pre.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = level if split is None else pre.Sequence([pre.Split(Regex(split), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False,
                                  special_tokens=list(first))
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def with_specials(tokenizer, specials, bos=None):
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    return tokenizer.to_str()


def vocab_and_merges(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {"vocab__json": model["vocab"], "merges__txt": "#version: 0.2\n" + "\n".join(merges) + "\n"}


def sentence_piece():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre.Split(Regex("\n|(?=▁)"), "isolated")
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=700, limit_alphabet=70, show_progress=False,
                                                              special_tokens=first))
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = made["added_tokens"][:3]
    made["pre_tokenizer"] = None
    made = Tokenizer.from_str(json.dumps(made))
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    return with_specials(made, [], "<s>")


def directories(place):
    opt = {"unk_token": "</s>", "bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    yield write(f"{place}/opt", **vocab_and_merges(byte_bpe(None, ["<s>", "<pad>", "</s>", "<unk>"])),
                config__json={"model_type": "opt"}, tokenizer_config__json={"tokenizer_class": "GPT2Tokenizer", **opt})
    yield write(f"{place}/gpt2", **vocab_and_merges(byte_bpe(None, ["<|endoftext|>"])),
                config__json={"model_type": "gpt2", "eos_token_id": 0},
                tokenizer_config__json={"tokenizer_class": "GPT2Tokenizer"})
    fast = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name in ["LLAMA2", "MISTRAL", "VICUNA"]:
        yield write(f"{place}/{name}", tokenizer__json=sentence_piece(), config__json={"model_type": "llama"},
                    tokenizer_config__json={"bos_token": "<s>", "eos_token": "</s>", **fast},
                    chat_template__jinja=TEMPLATES[name])
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    yield write(f"{place}/LLAMA3", tokenizer__json=with_specials(byte_bpe(REGEX["LLAMA3"]), specials, specials[0]),
                config__json={"model_type": "llama"}, chat_template__jinja=TEMPLATES["LLAMA3"],
                tokenizer_config__json={"bos_token": specials[0], "eos_token": specials[2], **fast})
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    yield write(f"{place}/CHATML", tokenizer__json=with_specials(byte_bpe(REGEX["QWEN"], (), normalizers.NFC()), specials),
                config__json={"model_type": "qwen2"}, chat_template__jinja=TEMPLATES["CHATML"],
                tokenizer_config__json={"eos_token": specials[2], **fast})


def ours(place, template, **job):
    return example("vxf-data", "tokens", {"dir": place, "template": template, **job})


def alpaca(instruction, text):
    start = "Below is an instruction that describes a task"
    if text:
        return (f"{start}, paired with an input that provides further context. Write a response that appropriately "
                f"completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{text}\n\n### Response:")
    return (f"{start}. Write a response that appropriately completes the request.\n\n"
            f"### Instruction:\n{instruction}\n\n### Response:")


def check(place):
    theirs = AutoTokenizer.from_pretrained(place)
    for text, ids in zip(TEXTS, ours(place, "plain", texts=TEXTS), strict=True):
        assert ids == theirs(text)["input_ids"], (place, text)
    rows = [(pick(), random.choice(["", pick()]), pick()) for _ in range(60)]
    samples = [{"ask": {"instruction": {"instruction": a, "input": b}}, "answer": c} for a, b, c in rows]
    for longest in [40, 120, 100_000]:
        made = ours(place, "alpaca", samples=samples, max_length=longest)
        for (instruction, text, answer), found in zip(rows, made, strict=True):
            ask = alpaca(instruction, text)
            cut = {"max_length": longest, "truncation": True}
            whole = theirs(ask + answer + theirs.eos_token, **cut)["input_ids"]
            assert found == [whole, len(theirs(ask, **cut)["input_ids"])], (place, ask)
    if not theirs.chat_template:
        return
    turn = lambda role: {"role": role, "content": pick()}
    asks = []
    for index in range(40):
        system = [turn("system")] if index % 3 == 0 and "MISTRAL" not in place else []
        before = [turn(role) for _ in range(index % 3) for role in ["user", "assistant"]]
        asks.append(system + before + [turn("user")])
    samples = [{"ask": {"messages": turns}, "answer": pick()} for turns in asks]
    wholes = [sample["ask"]["messages"] + [{"role": "assistant", "content": sample["answer"]}] for sample in samples]
    made = ours(place, "chat", samples=samples, conversations=wholes)
    for turns, whole, sample, conversation in zip(asks, wholes, made[:40], made[40:], strict=True):
        ids = theirs.apply_chat_template(whole, return_dict=False)
        asked = theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        assert conversation == ids and sample == [ids, len(asked)], (place, turns)


def round_trip(place):
    """Ids of the directory `place` by vxf, transformers and, where its file is there, tokenizers; and back to text.

    Gives how many texts there were, and how many came back whole from vxf's ids.
    """
    theirs, file = AutoTokenizer.from_pretrained(place), os.path.join(place, "tokenizer.json")
    alone = Tokenizer.from_file(file) if os.path.exists(file) else None
    made, whole = ours(place, "plain", texts=TEXTS), 0
    start = len(theirs("")["input_ids"])
    for text, ids in zip(TEXTS, made, strict=True):
        assert ids == theirs(text)["input_ids"], (place, text)
        back = theirs.decode(ids, skip_special_tokens=False)
        if alone:
            assert ids == alone.encode(text).ids, (place, text)
            assert back == alone.decode(ids, skip_special_tokens=False), (place, text)
        whole += theirs.decode(ids[start:], skip_special_tokens=False) == text
    return len(TEXTS), whole


def main():
    names = []
    with tempfile.TemporaryDirectory() as made:
        for place in directories(made):
            check(place)
            names.append(os.path.basename(place))
            print(f"tokens: {names[-1]} agrees", flush=True)
    return names


if __name__ == "__main__":
    main()
