"""What a model's folder says about how its answers are made (generation_config.json), honoured as transformers does.

One thing differs: answers are greedy unless a temperature is asked for, whatever `do_sample` says. Reading it needs
neither torch nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from hierdraft.engines.generation_keys import HONOURED, NOT_WHEN_SAMPLING, REFUSED, WHEN_SAMPLING, Check, number
from hierdraft.errors import ModelError, UnsupportedModelError, UsageError
from hierdraft.verify import rules
from hierdraft.verify.rules import Rule
from hierdraft.verify.sampling import COLDEST

FILE, _MODEL_FILE = "generation_config.json", "config.json"


_BEAM_LENGTH = 20
"""`max_length` of a config.json that says nothing else: what transformers once wrote into every one."""


@dataclass(frozen=True)
class GenerationDefaults:
    """What holds where a request does not say otherwise. Made empty, it changes nothing.

    said    keys of HONOURED and WHEN_SAMPLING with their values, where they change something
    eos     end-of-sequence ids as they are written; None: nothing is written
    refused keys that a request which samples cannot have
    draws   what the folder says of sampling, which is only told
    """

    said: Mapping[str, Any] = field(default_factory=dict)
    eos: Any = None
    refused: Sequence[str] = ()
    draws: str = ""

    @classmethod
    def read(cls, folder: Path, *, eos_only: bool = False) -> GenerationDefaults:
        """Those of a model's folder: of generation_config.json, else of config.json, as transformers looks for them.

        eos_only   leave out everything but where answers end

        Raises ModelError for a damaged file or value, UnsupportedModelError, by name, for what is not done here.
        """
        path = folder / (FILE if (folder / FILE).is_file() else _MODEL_FILE)
        found = _object(path)
        if eos_only:
            return cls(eos=found.get("eos_token_id"))
        refused = [_named(found, key) for key, active in REFUSED.items() if active(found.get(key))]
        if refused:
            raise UnsupportedModelError(
                f"{path} asks for {', '.join(refused)}, which is not done here: load the model with "
                "generation_config=False (--no-generation-config) to decode without what that file says."
            )
        if found.get("min_new_tokens") is not None:  # replaces the other, also where it is 0
            found.pop("min_length", None)
        if path.name == _MODEL_FILE and found.get("max_length") == _BEAM_LENGTH:
            del found["max_length"]
        said = {key: found[key] for key, check in HONOURED.items() if _holds(found, key, check, path)}
        said |= {key: found[key] for key in WHEN_SAMPLING if found.get(key) is not None}
        if not found.get("do_sample"):
            return cls(said, found.get("eos_token_id"))
        unknown = [key for key in NOT_WHEN_SAMPLING if found.get(key) not in (None, 0, 1)]
        draws = ["do_sample", *(_named(found, key) for key in ("temperature",) if found.get(key) is not None)]
        return cls(said, found.get("eos_token_id"), unknown, ", ".join(draws))

    def check(self, vocab_size: int) -> None:
        """Raise ModelError for token ids that the model does not have, where transformers fails over them."""
        ids = {
            "sequence_bias": [token for tokens, _ in self.said.get("sequence_bias", ()) for token in tokens],
            "bad_words_ids": [token for tokens in self.said.get("bad_words_ids", ()) for token in tokens],
            "forced_bos_token_id": _list(self.said.get("forced_bos_token_id", ())),
            "forced_eos_token_id": _list(self.said.get("forced_eos_token_id", ())),
        }
        for key, tokens in ids.items():
            for token in tokens:
                if not 0 <= token < vocab_size:
                    raise ModelError(f"{key} in {FILE} has the id {token}, outside the vocabulary of {vocab_size}.")

    def eos_ids(self, tokenizer: Any, vocab_size: int) -> tuple[int, ...]:
        """The ids after which answers end: those that are written, else the tokenizer's; may be empty.

        As in transformers, numbers are cut to whole ones, lists may be nested, and ids that no model has (-1, or past
        the vocabulary) never end anything. Raises ModelError for what is no number.
        """
        written = self.eos if self.eos is not None else getattr(tokenizer, "eos_token_id", None)
        found: list[int] = []
        waiting = [written]
        while waiting:
            value = waiting.pop(0)
            if isinstance(value, list | tuple):
                waiting = [*value, *waiting]
            elif isinstance(value, int | float) and isfinite(value):
                found.append(int(value))
            elif value is not None:
                raise ModelError(f"eos_token_id in {FILE} must be a number or a list of them, not {_shown(value)}.")
        return tuple(dict.fromkeys(token for token in found if 0 <= token < vocab_size))

    def sampling(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A request's sampling options with what it does not set. Raises UsageError where that cannot be sampled."""
        own = {key: value for key, value in given.items() if value is not None}
        taken = {key: self.said[key] for key in ("repetition_penalty",) if key in self.said}
        heat = own.get("temperature", 0.0)
        if number(heat) and heat >= COLDEST:
            if self.refused:
                raise UsageError(
                    f"{FILE} of this model wants to sample with {', '.join(self.refused)}, which is not done here: "
                    "load it with generation_config=False (--no-generation-config), or leave out the temperature."
                )
            taken |= {key: self.said[key] for key in WHEN_SAMPLING if key in self.said}
        return {**taken, **own}

    def limit(self, prompt_length: int, otherwise: int) -> int:
        """Most new tokens of a request that does not say how many. Raises UsageError where the prompt is too long."""
        if "max_new_tokens" in self.said:
            return int(self.said["max_new_tokens"])
        longest = self.said.get("max_length")
        if longest is None:
            return otherwise
        if prompt_length >= longest:
            raise UsageError(
                f"The prompt has {prompt_length} tokens, and max_length in {FILE} of this model is {longest}: "
                "give max_new_tokens (--max-new-tokens)."
            )
        return int(longest) - prompt_length

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end every answer."""
        return tuple(_list(self.said.get("stop_strings", ())))

    def first_rules(self, prompt_length: int) -> list[Rule]:
        """What stands before a request's own penalties."""
        found: list[Rule] = []
        if "sequence_bias" in self.said:
            found.append(rules.bias_sequences([(tokens, value) for tokens, value in self.said["sequence_bias"]]))
        if "encoder_repetition_penalty" in self.said:  # without an encoder, transformers takes the prompt for its input
            found.append(rules.penalise_prompt(1 / self.said["encoder_repetition_penalty"], prompt_length))
        return found

    def rules(self, prompt_length: int, limit: int, eos_ids: Sequence[int], vocab_size: int) -> list[Rule]:
        """What stands after them, in transformers' order; `limit`: most new tokens of the request."""
        said, found = self.said, []
        if "no_repeat_ngram_size" in said:
            found.append(rules.no_repeated_ngram(said["no_repeat_ngram_size"]))
        if "encoder_no_repeat_ngram_size" in said:
            found.append(rules.no_repeated_ngram(said["encoder_no_repeat_ngram_size"], prompt_length))
        words = [(word, -float("inf")) for word in said.get("bad_words_ids", ()) if word not in [[e] for e in eos_ids]]
        if words:
            found.append(rules.bias_sequences(words))
        shortest = max(said.get("min_length", 0), said.get("min_new_tokens", -prompt_length) + prompt_length)
        if shortest > prompt_length and eos_ids:
            found.append(rules.ban_before(shortest, eos_ids))
        bos = said.get("forced_bos_token_id")
        if bos is not None:
            found.append(rules.force_at(1, [bos]))
        if "forced_eos_token_id" in said:
            found.append(rules.force_at(prompt_length + limit - 1, _list(said["forced_eos_token_id"])))
        if "remove_invalid_values" in said:
            found.append(rules.only_numbers)
        if "exponential_decay_length_penalty" in said and eos_ids:
            start, factor = said["exponential_decay_length_penalty"]
            found.append(rules.likelier_end(prompt_length + start, factor, eos_ids))
        for key, length in (("suppress_tokens", None), ("begin_suppress_tokens", prompt_length)):
            tokens = [token for token in said.get(key, ()) if 0 <= token < vocab_size]
            if tokens and length is None:
                found.append(rules.ban(tokens))
            elif tokens:
                begins = prompt_length if prompt_length > 1 or bos is None else prompt_length + 1
                found.append(rules.ban_at(begins, tokens))
        return found

    @property
    def last_processors(self) -> list[Any]:
        """transformers' own processors that come last of all."""
        if "renormalize_logits" not in self.said:
            return []
        from transformers import LogitNormalization

        return [LogitNormalization()]

    def told(self, name: str) -> str:
        """One line that says what is taken over; "" where nothing is to be said."""
        taken = [_named(self.said, key) for key in HONOURED if key in self.said]
        parts = [f"{', '.join(taken)} taken over"] if taken else []
        if self.draws:
            drawn = [_named(self.said, key) for key in WHEN_SAMPLING if key in self.said]
            also = f" ({', '.join(drawn)} then taken over)" if drawn else ""
            parts.append(f"not {self.draws}: answers are greedy unless a temperature is given{also}")
        return f"{FILE} of {name}: {'; '.join(parts)}." if parts else ""


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): restore or delete it.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} must hold a JSON object: restore or delete it.")
    return found


def _holds(found: Mapping[str, Any], key: str, check: Check, path: Path) -> bool:
    """Whether a key changes something. Raises ModelError for a value that it cannot have."""
    fits, wanted, active = check
    value = found.get(key)
    if value is None:
        return False
    if not fits(value):
        raise ModelError(f"{key} in {path} must be {wanted}, not {_shown(value)}.")
    return active(value)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _named(found: Mapping[str, Any], key: str) -> str:
    return key if found[key] is True else f"{key} {_shown(found[key])}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
