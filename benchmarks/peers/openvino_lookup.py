"""OpenVINO GenAI, plainly and with its prompt lookup, as they are, on the same GGUF.

pip install -r benchmarks/peers/openvino_lookup.txt
python benchmarks/peers/openvino_lookup.py --runs runs/greedy --model smollm2.gguf
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import openvino_genai

from paired import Decode, arguments, compare, read_prompts, write

TOKENS, NGRAM = 10, 3


def decoder(pipeline: Any, **options: Any) -> Decode:
    def decode(ids: list[int], most: int) -> list[int]:
        prompt = np.array([ids], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(np.ones_like(prompt)))
        config = pipeline.get_generation_config()
        config.max_new_tokens, config.do_sample = most, False
        for name, value in options.items():
            setattr(config, name, value)
        found: list[int] = [int(token) for token in pipeline.generate(inputs, config).tokens[0]]
        return found

    return decode


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", required=True, help="a GGUF file or a folder in OpenVINO's own form")
    args = parser.parse_args()
    header, rows = read_prompts(args.runs, args.limit)
    plain = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
    lookup = openvino_genai.LLMPipeline(args.model, "CPU", prompt_lookup=True, INFERENCE_NUM_THREADS=args.threads)
    drafted = {"prompt lookup, 10 tokens": decoder(lookup, num_assistant_tokens=TOKENS, max_ngram_size=NGRAM)}
    found = compare(decoder(plain), drafted, rows, header["max_new_tokens"])
    settings = {"model": header["model"], "threads": args.threads, "ngram": NGRAM}
    write("openvino-genai", ["openvino", "openvino-genai"], settings, found)


if __name__ == "__main__":
    main()
