"""flashspec with its prompt-lookup drafter, as it is, against transformers' greedy decoding of the same model.

pip install -r benchmarks/peers/flashspec_lookup.txt
python benchmarks/peers/flashspec_lookup.py --runs runs/greedy --model FOLDER
"""

from __future__ import annotations

import torch
from flashspec import FlashSpecConfig, SamplingConfig, SpeculativeEngine
from flashspec.engine.ngram import NgramDrafter
from flashspec.engine.verifier import TargetModel
from transformers import AutoModelForCausalLM

from paired import arguments, compare, read_prompts, write
from transformers_lookup import decoder

TOKENS = 10


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", required=True, help="the folder of the model (hierdraft models list says where)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    header, rows = read_prompts(args.runs, args.limit)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    eos = model.generation_config.eos_token_id
    config = FlashSpecConfig(
        drafter_name="ngram", target_name=args.model, device="cpu", dtype="float32",
        sampling=SamplingConfig(gamma=TOKENS, temperature=0.0, variant="greedy"),
    )  # fmt: skip
    target = TargetModel(args.model, torch.device("cpu"), torch.float32)
    engine = SpeculativeEngine(config, [NgramDrafter()], target)

    def decode(ids: list[int], most: int) -> list[int]:
        done = engine.generate(torch.tensor([ids]), most, [eos] if isinstance(eos, int) else eos)
        return [int(token) for token in done.output_ids.reshape(-1)][:most]

    found = compare(decoder(model), {"lookup, 10 tokens": decode}, rows, header["max_new_tokens"])
    settings = {"model": header["model"], "threads": args.threads}
    write("flashspec-lookup", ["flashspec", "torch", "transformers"], settings, found)


if __name__ == "__main__":
    main()
