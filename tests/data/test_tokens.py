"""The tokenizer: every caption goes there and back, every other text is refused with a hint."""

import pytest
import torch

from minidiff.data.captions import VOCABULARY, captions
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.data.factors import BACKGROUNDS, COATS, HATS, PATTERNS
from minidiff.data.species import NAMES
from minidiff.data.tokens import CONTEXT, END, PAD, START, Tokenizer

LONGEST = "a baby smiling striped orange cat wearing glasses and a blue hat on a green background"


def test_every_caption_of_the_world_comes_back():
    sentences = captions(Critters(length=4000, seed=3, rates=COMMON_RATES).factors(slice(0, 4000)))
    tokens, tokenizer = Tokenizer()(sentences), Tokenizer()
    assert tokens.shape == (4000, CONTEXT) and tokens.dtype == torch.long
    assert [tokenizer.decode(row) for row in tokens] == sentences
    assert len(set(map(tuple, tokens.tolist()))) == len(set(sentences)) > 1000


def test_the_vocabulary_is_every_word_of_the_tables_once():
    tables = {*COATS, *BACKGROUNDS, *HATS, *NAMES, *PATTERNS} - {"plain"}
    frame = {"a", "on", "background", "baby", "smiling", "sad", "wearing", "glasses", "and", "hat"}
    assert set(VOCABULARY) == tables | frame and len(VOCABULARY) == len(set(VOCABULARY))
    for word in VOCABULARY:
        (number,) = Tokenizer().encode(word)
        assert PAD < number < START < END == Tokenizer().vocab_size - 1
        assert Tokenizer().decode([START, number, END]) == word


def test_start_words_end_and_padding():
    (row,) = Tokenizer()("an orange cat", context_length=8).tolist()
    assert row[0] == START and row[4] == END == max(row) and row[5:] == [PAD] * 3
    assert Tokenizer()("").tolist() == [[START, END] + [PAD] * (CONTEXT - 2)] and Tokenizer().decode(row[:1]) == ""
    assert Tokenizer()([]).shape == (0, CONTEXT)
    assert Tokenizer().decode(row + [3]) == "an orange cat"  # what follows the end is no part of the sentence


def test_the_longest_sentence_fits():
    assert Tokenizer()(LONGEST, context_length=18)[0, -1] == END
    with pytest.raises(ValueError, match="a caption of 16 words, but there is room for 15: 'a baby smiling"):
        Tokenizer()(LONGEST, context_length=17)
    with pytest.raises(ValueError, match="a caption of 19 words, but there is room for 18"):
        Tokenizer()(LONGEST + " and a hat")


def test_case_articles_and_the_full_stop_make_no_difference():
    plain = Tokenizer()("an orange cat on a red background")
    for text in (
        "An Orange CAT on a red background.",
        "a orange cat  on a red background",
        " an orange cat on a red background. ",
    ):
        assert torch.equal(Tokenizer()(text), plain)


@pytest.mark.parametrize(
    "text, word, known",
    [
        ("a smilling cat", "smilling", "smiling"),
        ("a cat, a dog", "cat,", "cat"),
        ("a gray dog", "gray", "grey"),
        ("a gren hat", "gren", "green"),
        ("a turtle", "turtle", "purple"),
        ("a kitten", "kitten", "baby cat"),
        ("a fox", "fox", "wild"),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest_known_one(text, word, known):
    with pytest.raises(ValueError, match=f"no word '{word}' in the grammar; did you mean '{known}'"):
        Tokenizer()(["a cat", text])


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="caption: expected a string, got int: 3"):
        Tokenizer()([3])
    for number in (-1, END + 1):
        with pytest.raises(ValueError, match=f"tokens: expected numbers from 0 to {END}, got {number}"):
            Tokenizer().decode([START, number])
    with pytest.raises(ValueError, match="context_length: expected at least 2"):
        Tokenizer(1)
    with pytest.raises(ValueError, match="context_length: expected at least 2"):
        Tokenizer()("", context_length=0)
