"""transformers' own prompt lookup against its own greedy decoding, as they are.

pip install -r benchmarks/peers/transformers_lookup.txt
python benchmarks/peers/transformers_lookup.py --runs runs/greedy --model FOLDER
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from paired import Decode, arguments, compare, read_prompts, write


def decoder(model: Any, **options: Any) -> Decode:
    def decode(ids: list[int], most: int) -> list[int]:
        prompt = torch.tensor([ids])
        with torch.no_grad():
            out = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=most, do_sample=False, **options
            )
        found: list[int] = out[0, len(ids) :].tolist()
        return found

    return decode


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", required=True, help="the folder of the model (hierdraft models list says where)")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    header, rows = read_prompts(args.runs, args.limit)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
    lookup = {"prompt lookup, 10 tokens": decoder(model, prompt_lookup_num_tokens=10)}
    found = compare(decoder(model), lookup, rows, header["max_new_tokens"])
    settings = {"model": header["model"], "dtype": args.dtype, "threads": args.threads}
    write("transformers-lookup", ["torch", "transformers"], settings, found)


if __name__ == "__main__":
    main()
