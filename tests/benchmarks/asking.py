"""Speed of asking a real model, as ratios of CPU time in one run.

Run:
    python -m tests.benchmarks.asking --model FOLDER [--questions N] [--json FILE]

Prompts are few-shot, of many lengths. Sides take turns, and the best turn of each counts: what else
the machine does only ever adds. `asking_again_of_bare` compares tokens per second over the tokens
that are computed after sharing with the bare forward pass, the head at as many places included;
`answering_of_bare` compares answers of eight tokens with transformers' own `generate`.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ghosttrack.models import sharing
from ghosttrack.models.generate import GenerateSettings, generate
from ghosttrack.models.lm import LM
from ghosttrack.models.score import Texts, total

HEAD = """Question: Who wrote Hamlet?
Answer: William Shakespeare

Question: What is the capital of France?
Answer: Paris

"""
SUBJECTS = ("Oslo", "Marie Curie", "the Tower of London", "the oldest university of Bologna")
FORMS = (
    "Where is {}?",
    "In which country is {} to be found?",
    "Who was first to see {}, and when?",
)
TURNS = 3


def cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def compare(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Let sides take turns; give the best turn of each."""
    took = [{name: cpu_seconds(run) for name, run in sides.items()} for _ in range(TURNS)]
    return {name: min(turn[name] for turn in took) for name in sides}


def without_sharing(run: Callable[[], object]) -> None:
    least, sharing.LEAST_SAVED = sharing.LEAST_SAVED, 10**9
    run()
    sharing.LEAST_SAVED = least


def of_equal_length(lm: LM, run: Callable[[], object]) -> None:
    """Pad nothing and share nothing."""
    lm.__dict__["can_pad"] = False
    without_sharing(run)
    lm.__dict__["can_pad"] = True


def bare_answering(lm: LM, prompts: list[list[int]], settings: GenerateSettings) -> None:
    """Let transformers answer all prompts in one batch, padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(one)) + one for one in prompts])
    there = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
    with torch.no_grad():
        lm.model.generate(  # pyright: ignore[reportCallIssue]
            ids, attention_mask=there, do_sample=False, pad_token_id=0,
            min_new_tokens=settings.max_new_tokens, max_new_tokens=settings.max_new_tokens,
        )  # fmt: skip


def bare(lm: LM, n_rows: int, n_pos: int, n_asked: int) -> None:
    """Run the trunk over as many tokens, and the head at as many places."""
    with torch.no_grad():
        ids = torch.zeros(n_rows, n_pos, dtype=torch.long)
        states = lm.parts.trunk(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
        lm.parts.head(states[:n_asked])


def measure(lm: LM, n_questions: int) -> dict[str, float]:
    asked = [FORMS[n % 3].format(SUBJECTS[n % 4] + " again" * (n % 5)) for n in range(n_questions)]
    prompts = lm.encode_all([f"{HEAD}Question: {text}\nAnswer:" for text in asked])
    assert lm.can_pad, "this model cannot be padded"
    assert lm.can_pad_shared, "this model cannot share what prompts begin with"
    answering = partial(generate, lm, prompts, GenerateSettings(8, ("\n",)))
    answered = compare(
        {
            "shared": answering,
            "padded": partial(without_sharing, answering),
            "equal": partial(of_equal_length, lm, answering),
        }
    )
    to_the_end = GenerateSettings(8, ())
    decoding = compare(
        {
            "ours": partial(generate, lm, prompts, to_the_end),
            "bare": partial(bare_answering, lm, prompts, to_the_end),
        }
    )
    answers = [tuple(one.token_ids) or (0,) for one in answering()]
    texts = Texts(list(map(tuple, prompts)), answers, [()] * len(prompts))
    n = len(prompts)
    pairs = np.array([[row, (row + shift) % n] for row in range(n) for shift in range(4)])
    asking = partial(total, lm, texts, pairs)
    computed: list[int] = []
    hook = lm.parts.blocks[0].register_forward_pre_hook(
        lambda _, inputs: computed.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    asking()
    hook.remove()
    n_tokens, n_pos = sum(computed), 64
    n_asked = sum(len(answers[answer]) for answer in pairs[:, 1])
    rows = max(1, lm.batch_tokens // n_pos)
    n_batches = max(1, round(n_tokens / (rows * n_pos)))
    share = min(rows * n_pos, n_asked // n_batches)
    forward = partial(bare, lm, rows, n_pos, share)
    again = compare(
        {
            "shared": asking,
            "plain": partial(without_sharing, asking),
            "bare": lambda: [forward() for _ in range(n_batches)],
        }
    )
    bare_speed = n_batches * rows * n_pos / again["bare"]
    return {
        "questions": n,
        "lengths": len(set(map(len, prompts))),
        "answering_padded_over_equal": round(answered["equal"] / answered["padded"], 2),
        "answering_shared_over_equal": round(answered["equal"] / answered["shared"], 2),
        "answering_of_bare": round(decoding["bare"] / decoding["ours"], 2),
        "scoring_shared_over_plain": round(again["plain"] / again["shared"], 2),
        "asking_again_of_bare": round(n_tokens / again["shared"] / bare_speed, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    found = measure(LM(model, tokenizer, prepend_bos=True, identity={}), given.questions)
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
