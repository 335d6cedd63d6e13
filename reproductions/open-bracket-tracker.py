"""Open-bracket trackers write, at the end of a line of code, the number of parentheses that are still to be closed.

Claim      Heads keep track of parentheses and promote a token that closes a number of them. A few promote the right one
           for several numbers; many promote one number whatever is missing (miller2025mechanistic; rai2025failure).
Stimuli    "#print the string 160 / print(str(160", which lacks one, two or three closing parentheses, each as often, as
           in the second study; the same with a number to write, and after a call that is closed already. The comment
           says what is printed, so that nothing else can follow. Tokenizers have a token for each number. In the
           corrupted prompt, the second study's, one call has two parentheses: as many tokens and function names, one
           parenthesis more. Lines that lack four are left out, as their corrupted prompt lacks five. A tokenizer that
           writes every parenthesis apart is asked instead whether another one follows or the line ends.
Score      How often the token that closes the right number is the one, of those for one to four, that the head's output
           at the last token raises most. The authors project that output onto the vocabulary as it is; here it goes
           through the final norm at the scale of the run. They also take each number by itself.
Control    How often the same token is the one that the head raises most in the corrupted prompt, where it is wrong: a
           head that always raises one token, or counts function names, does as well there.
Behaviour  How often the right one of the four tokens has the largest logit.
Cause      The heads found give, at the last token, what they gave on the corrupted prompt: the right token should lose
           its lead. The second study strengthens the output of such heads instead.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, parentheses

FAMILIES = {  # the beginning, and the function that is called within the first one
    "print a string": ("#print the string {value}\nprint", "str"),
    "write a number": ("#write the number {value}\nwrite", "int"),
    "after a closed call": ("print(len(items))\n#print the string {value}\nprint", "str"),
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A line of code that lacks parentheses; read at its end."""
    return parentheses.unclosed(vocab, *FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Whether each head raises the right token most, on the prompt and on the corrupted prompt: [prompt layer head]."""
    score, null = (raised(model, sample.prompts, corrupted) for corrupted in (False, True))
    return Scores(score, null)


def raised(model: OpenModel, prompts: list[Prompt], corrupted: bool) -> NDArray[np.float64]:
    """Whether the prompt's right token is the one of those asked about that each head raises most."""

    def effects(number: int) -> NDArray[np.float64]:
        """What each head writes into the logit of one of the tokens, the right one first."""
        asked = [
            replace(prompt, readouts=(Readout(last.position, (last.answer, *last.rivals)[number]),))
            for prompt in prompts
            for last in prompt.readouts
        ]
        found: NDArray[np.float64] = direct_effects(model, asked, corrupted=corrupted)
        return found

    right, *wrong = (effects(number) for number in range(1 + len(prompts[0].readouts[-1].rivals)))
    most = np.max(wrong, 0)
    return np.where(np.isnan(right), np.nan, right > most)
