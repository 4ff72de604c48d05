"""Probabilities of the judge `moderation` against LlamaForSequenceClassification, on a random model made here."""

import os, random, tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from program import example

words = open(__file__).read().split()


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([" ".join(words)], trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, show_progress=False, special_tokens=["<s>", "</s>", "<pad>"]))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", made.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                                   padding_side="right", truncation_side="right")


def main():
    random.seed(0)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        theirs = tokenizer()
        config = LlamaConfig(
            vocab_size=len(theirs), hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=512, num_labels=14, initializer_range=0.3,
            pad_token_id=theirs.pad_token_id, eos_token_id=theirs.eos_token_id, rms_norm_eps=1e-6)
        model = LlamaForSequenceClassification(config).eval().float()
        model.save_pretrained(place)
        theirs.save_pretrained(place)
        some = lambda most: " ".join(random.choices(words, k=random.randint(0, most)))
        exchanges = [(some(40), some(random.choice([0, 5, 200]))) for _ in range(40)]
        job = {"dir": place, "exchanges": exchanges}
        ours = torch.tensor(example("vxf-judges", "probabilities", job), dtype=torch.float64)
        worst, lengths = 0.0, []
        for batch in [1, 5]:
            for start in range(0, len(exchanges), batch):
                texts = [f"BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{answer}{theirs.eos_token}"
                         for prompt, answer in exchanges[start : start + batch]]
                tokens = theirs(texts, return_tensors="pt", padding=True, truncation=True, max_length=256,
                                return_token_type_ids=False)
                with torch.no_grad():
                    wanted = torch.sigmoid(model(**tokens).logits).double()
                worst = max(worst, (wanted - ours[start : start + batch]).abs().max().item())
                lengths += tokens["attention_mask"].sum(1).tolist()
        print(f"moderation: largest difference {worst:.1e} over {len(exchanges)} exchanges of {min(lengths)} to {max(lengths)} tokens")
        assert worst < 1e-5 and max(lengths) == 256 and ours.min() < 0.1 and ours.max() > 0.9
        return worst


if __name__ == "__main__":
    main()
