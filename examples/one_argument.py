"""Draft inside transformers' own generate: one added argument, the same ids.

python examples/one_argument.py [MODEL FOLDER OR HUB NAME]
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import hierdraft
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings

path = resolve(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m", load_settings().cache_dir).path
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

messages = [{"role": "user", "content": "Name three fruits. Then name the same three fruits again."}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
options = {"do_sample": False, "max_new_tokens": 60}

plain = model.generate(**inputs, **options)
drafted = model.generate(**inputs, **options, custom_generate=hierdraft.hf.decode())

print(tokenizer.decode(drafted[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
print("identical:", bool((plain == drafted).all()))
