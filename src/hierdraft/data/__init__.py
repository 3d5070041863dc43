"""Files that ship with the package: `prompts.jsonl`, the built-in prompts of the demo and the benchmarks."""
