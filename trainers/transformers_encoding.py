"""Texts and labels → token numbers and label numbers, for one batch. Padding is the collator's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from registry.errors import TrainingFailed
from trainers.transformers_goal import Goal
from trainers.transformers_tasks import Kind

#: What PyTorch's cross-entropy leaves out.
IGNORED = -100
#: A tokenizer that knows no bound says a number of this kind.
_NO_BOUND = 1 << 20
_USUAL_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes the rows of one model."""

    tokenizer: Any
    goal: Goal
    max_length: int

    def encode(self, texts: Sequence[list[Any]], y: list[Any] | None, *, learn: bool = False) -> list[dict[str, Any]]:
        """One batch.

        Args:
            texts: for each field of X, a value a row: a text, or, for tags, a list of words.
            y: a value a row; None where there is none.
            learn: with `labels`; one that the model doesn't know is left out of the loss.

        Returns:
            For each row `input_ids`, `attention_mask` and what else the model takes.
        """
        words = self.goal.kind == Kind.TAGS
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_length, is_split_into_words=words)
        if self.goal.kind == Kind.TEXT:
            return self._with_end(encoded, len(texts[0]), learn=learn)
        rows = [{name: encoded[name][at] for name in encoded} for at in range(len(texts[0]))]
        if y is not None and learn:
            for at, (row, value) in enumerate(zip(rows, y, strict=True)):
                row["labels"] = self._label(value) if not words else self._tags(encoded.word_ids(at), value)
        return rows

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch's tensors: padded to its longest row."""
        labels = [row.pop("labels") for row in rows if "labels" in row]
        batch: dict[str, Any] = dict(self.tokenizer.pad(rows, return_tensors="pt"))
        if labels and self.goal.kind in (Kind.TAGS, Kind.TEXT):
            width = batch["input_ids"].shape[1]
            left = self.tokenizer.padding_side == "left"
            batch["labels"] = torch.tensor([_padded(each, width, left=left) for each in labels])
        elif labels:
            kind = torch.long if self.goal.kind == Kind.LABEL else torch.float32
            batch["labels"] = torch.tensor(labels, dtype=kind)
        return batch

    def first_tokens(self, words: list[list[str]]) -> list[list[int | None]]:
        """For each word of each row the place of its first token; None where the text was cut before it."""
        encoded = self.tokenizer(words, truncation=True, max_length=self.max_length, is_split_into_words=True)
        found: list[list[int | None]] = [[None] * len(row) for row in words]
        for at, places in enumerate(found):
            for token, word in enumerate(encoded.word_ids(at)):
                if word is not None and places[word] is None:
                    places[word] = token
        return found

    def _label(self, value: Any) -> Any:
        if self.goal.kind == Kind.NUMBER:
            return float(value)
        if self.goal.kind == Kind.LABEL:
            return self._number(value)
        chosen = {self._number(each) for each in value}
        return [float(at in chosen) for at in range(len(self.goal.labels))]

    def _tags(self, words: list[int | None], tags: list[Any]) -> list[int]:
        """The tag of a word stands at its first token."""
        found, before = [], None
        for word in words:
            found.append(IGNORED if word is None or word == before else self._number(tags[word]))
            before = word
        return found

    def _number(self, label: Any) -> int:
        return self.goal.numbers.get(label, IGNORED)

    def _with_end(self, encoded: Any, count: int, *, learn: bool) -> list[dict[str, Any]]:
        """Texts to go on from; to learn from, each has its end."""
        end = self.tokenizer.eos_token_id
        rows = []
        for at in range(count):
            ids, mask = list(encoded["input_ids"][at]), list(encoded["attention_mask"][at])
            if learn and end is not None and ids[-1:] != [end] and len(ids) < self.max_length:
                ids, mask = [*ids, end], [*mask, 1]
            rows.append({"input_ids": ids, "attention_mask": mask} | ({"labels": list(ids)} if learn else {}))
        return rows


def longest(config: Any, tokenizer: Any, asked: int | None) -> int:
    """How many tokens a text may have.

    Args:
        asked: the document's `max_length`.

    Raises:
        TrainingFailed: the model takes fewer than that.
    """
    positions = getattr(config, "max_position_embeddings", None)
    bounds = [
        bound for bound in (tokenizer.model_max_length, positions) if isinstance(bound, int) and 0 < bound < _NO_BOUND
    ]
    if asked is None:
        return min(bounds, default=_USUAL_LENGTH)
    if bounds and asked > min(bounds):
        raise TrainingFailed(f"`object.max_length` is {asked}, and the model takes at most {min(bounds)} tokens")
    return asked


def prepared(tokenizer: Any) -> Any:
    """The tokenizer, able to pad: where it has nothing to pad with, with the token that ends a text.

    Raises:
        TrainingFailed: it has neither.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise TrainingFailed(
                "the model's tokenizer has no token to pad with; set its `pad_token`, and save it again"
            )
        tokenizer.pad_token = tokenizer.eos_token
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerFast):
        raise TrainingFailed("the model has no fast tokenizer (tokenizer.json); save one beside it")
    return tokenizer


def _padded(labels: list[int], width: int, *, left: bool) -> list[int]:
    rest = [IGNORED] * (width - len(labels))
    return [*rest, *labels] if left else [*labels, *rest]
