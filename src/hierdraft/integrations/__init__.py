"""Inside other programs: transformers' generate, vLLM."""
