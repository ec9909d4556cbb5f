"""The loss on pairs according to `trl`, which `tests/test_preference.py` compares with the loss of the course.

    python benchmarks/preference.py        half a minute on two cores

Six test poems are the chosen answers, and their characters in reverse the rejected ones. The model is the shipped
fine-tuned one, the reference the same with all weights multiplied by 0.98.
"""

from __future__ import annotations

import tempfile

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer

from course_lib import paths
from course_lib.poems import load_poems

KINDS = ("sigmoid", "sigmoid_norm", "sft")  # DPO with sums, with means over tokens; the loss on the chosen answer
SCALE = 0.98
WORDING = "請用以下題目寫一首詩"


def trl_loss(kind: str) -> float:
    """The mean loss over the pairs, in float32, one pair in a batch."""
    tokenizer = AutoTokenizer.from_pretrained(paths.FINETUNED)
    model, reference = (LlamaForCausalLM.from_pretrained(paths.FINETUNED, dtype=torch.float32) for _ in range(2))
    with torch.no_grad():
        for weight in reference.parameters():
            weight.mul_(SCALE)
    rows = []
    for poem in load_poems("test")[:6]:
        asked = [{"role": "system", "content": WORDING}, {"role": "user", "content": poem.title}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        rows.append({"prompt": prompt, "chosen": f"{poem.text}<EOS>", "rejected": f"{poem.text[::-1]}<EOS>"})
    data = Dataset.from_list(rows)
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(folder, loss_type=[kind], per_device_eval_batch_size=1, bf16=False, report_to=[])
        trainer = DPOTrainer(
            model, reference, config, train_dataset=data, eval_dataset=data, processing_class=tokenizer
        )
        return float(trainer.evaluate()["eval_loss"])


if __name__ == "__main__":
    for kind in KINDS:
        print(f"{kind:13} {trl_loss(kind):.7f}")
