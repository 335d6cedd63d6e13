"""Does a model answer multiple-choice questions by their letters? In plain text, after examples, and in its own chat.

    python tools/explain/multiple_choice.py MODEL [--questions 40]

Prints, for each way of asking and each kind of question of the rules of the multiple-choice heads, how often the letter
of the right one of four options has the largest logit of the four (chance is 25%), and how often the commonest letter
has it: a model that gives one letter to nearly everything lacks the skill.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable

import torch

from headatlas.lab import OpenModel, forward, open_model
from headatlas.stimuli import Vocabulary, multiple_choice_questions
from headatlas.stimuli.cases import Case
from headatlas.stimuli.multiple_choice_questions import LETTERS

KINDS = {"told": "told", "color just seen": "color", "fact of the world": "real"}
_HERE = "\N{WHITE SQUARE}"  # means the question, in a chat template
_END = " Answer:"


def text_of(case: Case) -> str:
    """The question, up to where its answer comes next."""
    return "".join(part.text for part in case.segments)


def examples(kind: str, rng: random.Random, count: int) -> str:
    """Questions with their answers."""
    cases = [multiple_choice_questions.multiple_choice("train", rng, kind) for _ in range(count)]
    return "".join(f"{text_of(case)}{case.answers[0]}\n\n" for case in cases)


def plain(words: Vocabulary, case: Case, before: str) -> tuple[int, ...]:
    """The question as it is, after examples if there are any."""
    return words.prompt(before + text_of(case))


def chat(words: Vocabulary, case: Case, before: str) -> tuple[int, ...]:
    """The question as a turn of the user; the answer begins a turn of the model, after 'Answer:'."""
    turn = [{"role": "user", "content": f"{_HERE}"}]
    whole = words.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    asked = before + text_of(case).removesuffix(_END) + "\nAnswer with the letter of the right option."
    text = whole.replace(_HERE, asked) + _END.strip()
    return tuple(words.tokenizer.encode(text, add_special_tokens=False))


Way = tuple[Callable[[Vocabulary, Case, str], tuple[int, ...]], int]


def ways(words: Vocabulary) -> dict[str, Way]:
    """Ways of asking, and how many examples come before."""
    found: dict[str, Way] = {"plain text": (plain, 0), "five examples": (plain, 5)}
    if getattr(words.tokenizer, "chat_template", None):
        found |= {"its chat": (chat, 0), "its chat, five examples": (chat, 5)}
    return found


def answered(model: OpenModel, tokens: tuple[int, ...]) -> torch.Tensor:
    """The logits of the four letters."""
    ids = [model.vocabulary.continuation(f" {letter}")[0] for letter in LETTERS]
    return forward(model, torch.tensor([tokens]), positions=torch.tensor([len(tokens) - 1]))[0, 0, ids]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=40, help="of each kind (default 40)")
    options = parser.parse_args()
    model = open_model(options.model)
    print(f"{model.name}, {options.questions} questions of each kind; chance is 25%")
    print(f"{'':28}{'':22}{'right':>8}{'commonest letter':>20}")
    for way, (write, count) in ways(model.vocabulary).items():
        for name, kind in KINDS.items():
            right, given = 0, Counter[str]()
            for number in range(options.questions):
                rng = random.Random(f"{kind}/{number}")
                before = examples(kind, random.Random(f"{kind}/{number}/before"), count)
                case = multiple_choice_questions.multiple_choice("train", rng, kind)
                letter = LETTERS[int(answered(model, write(model.vocabulary, case, before)).argmax())]
                right += case.answers[0].strip() == letter
                given[letter] += 1
            letter, times = given.most_common(1)[0]
            share = f"{letter}, {times / options.questions:.0%}"
            print(f"{way:28}{name:22}{right / options.questions:8.0%}{share:>20}", flush=True)


if __name__ == "__main__":
    main()
