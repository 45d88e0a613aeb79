"""Words as numbers: a tokenizer over the grammar of `captions`, called as those of open_clip are.

A caption becomes [START, its words, END, PAD, PAD ...]. END is the largest number of all, because CLIP's text tower
looks for the largest to know where the sentence ends (Radford et al., "Learning transferable visual models from natural
language supervision", ICML 2021). The empty caption "" is [START, END]: what classifier-free guidance calls no caption.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minidiff.data.captions import VOCABULARY, with_articles, words

PAD, START, END = 0, len(VOCABULARY) + 1, len(VOCABULARY) + 2  # the words lie between, from 1 on
CONTEXT = 20  # the longest sentence has 16 words


class Tokenizer:
    """tokenizer(captions) -> whole numbers (B, context_length); a word outside the grammar is an error, never a number.

    The attributes bear open_clip's names, so that code written for its tokenizers takes this one.
    """

    vocab_size = len(VOCABULARY) + 3
    sot_token_id, eot_token_id, pad_token_id = START, END, PAD

    def __init__(self, context_length: int = CONTEXT):
        self.context_length = _checked(context_length)

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """One caption or several -> long (B, L).

        Raises ValueError for an unknown word (with the nearest known one) or a caption of more than L - 2 words,
        TypeError for what is no string.
        """
        length = self.context_length if context_length is None else _checked(context_length)
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.full((len(texts), length), PAD, dtype=torch.long)
        for row, text in zip(tokens, texts):
            numbers = [START, *self.encode(text), END]
            if len(numbers) > length:
                raise ValueError(
                    f"texts: a caption of {len(numbers) - 2} words, but there is room for {length - 2}: {text!r}"
                )
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens  # (B, L)

    def encode(self, text: str) -> list[int]:
        """The numbers of the words alone."""
        return [1 + VOCABULARY.index(word) for word in words(text)]

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """One row of numbers (L,) -> its caption, up to END. Raises ValueError for a number that is no token."""
        said = []
        for number in torch.as_tensor(tokens).tolist():
            if not 0 <= number < self.vocab_size:
                raise ValueError(f"tokens: expected numbers from 0 to {END}, got {number}")
            if number == END:
                break
            said += [VOCABULARY[number - 1]] if PAD < number < START else []
        return with_articles(" ".join(said))


def _checked(context_length: int) -> int:
    if context_length < 2:
        raise ValueError(f"context_length: expected at least 2, for start and end, got {context_length}")
    return context_length
