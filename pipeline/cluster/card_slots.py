"""How a machine's cards are divided into slots, one for each engine: a slot is one card, or several
equal ones that share every layer. Pure, except for looking up a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pipeline.budget.cards.lookup import Card, in_slot
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.tensor_parallel import cards_needed, fits_over
from pipeline.errors import RackmillError, UsageError
from pipeline.humanize import plural
from pipeline.job.job import Job
from pipeline.model.catalogue import CATALOGUE
from pipeline.model.store.resolve import in_store

# a card, and how many equal ones its machine has -> how many of them one engine takes
Spread = Callable[[Card, int], int]

_SHORTEST_PROMPT = 16  # tokens


@dataclass(frozen=True)
class CardSlot:
    """``cards``: their numbers on the machine; all are equal to ``card``."""

    card: Card
    cards: tuple[int, ...]


def _left_over(card: Card, number: int, wanted: int) -> str:
    """``number`` cards like ``card`` are too few for a slot of ``wanted``."""
    return f"{number}x {card.title} left over: an engine takes {wanted} alike"


def divide(cards: Mapping[int, Card], spread: Spread) -> tuple[list[CardSlot], list[str]]:
    """The slots of one machine, and the cards left over, in words. ``cards``: by their numbers;
    neighbours share a slot."""
    kinds: dict[str, list[int]] = {}
    for number, card in cards.items():
        kinds.setdefault(card.name, []).append(number)
    slots, left = [], []
    for numbers in kinds.values():
        card = cards[numbers[0]]
        wanted = spread(card, len(numbers))
        whole = len(numbers) // wanted * wanted
        slots += [
            CardSlot(card, tuple(numbers[at : at + wanted])) for at in range(0, whole, wanted)
        ]
        if whole < len(numbers):
            left.append(_left_over(card, len(numbers) - whole, wanted))
    return slots, left


def spread_of(job: Job, model: ModelSpec | None) -> Spread:
    """How many cards an engine of ``job`` takes: the number in the job, or else the fewest that
    hold the model and a request with the longest answer. One if the model is unknown."""
    if model is None:
        return lambda card, alike: job.engine.tensor_parallel_size or 1
    options = _least(job, model)
    return cache(lambda card, alike: cards_needed(model, card, options, alike))


def fits_of(job: Job, model: ModelSpec | None) -> Callable[[Card, int], bool]:
    """Whether so many such cards hold the model and one minimal request of ``job``. True if the
    model is unknown."""
    if model is None:
        return lambda card, cards: True
    options = _least(job, model)
    return cache(lambda card, cards: card.is_cpu or fits_over(model, card, options, cards))


def _least(job: Job, model: ModelSpec) -> FitOptions:
    request = min(_SHORTEST_PROMPT + job.longest_answer, model.geometry.context)
    given = job.engine.vllm_arguments()
    return FitOptions.from_arguments(given, job.engine.max_model_len or request)


def known_model(reference: str) -> ModelSpec | None:
    """What is known without a download about the model that ``reference`` names."""
    try:
        stored = in_store(reference)
        if stored is not None:
            return ModelSpec.of_folder(stored)
    except (RackmillError, OSError):
        return None
    entry = CATALOGUE.get(reference)
    return None if entry is None else ModelSpec.of(entry.model, entry.precision)


def asked_slots(
    asked: Sequence[tuple[int, Card]], spread: Spread, wanted: int = 1
) -> tuple[list[tuple[int, Card, int]], list[str]]:
    """For cards that a user names: (number of engines, their card, cards per engine), and the cards
    left over, in words.

    Cards listed together ("2x rtx3060") are in one machine, but each laptop is its own machine.
    ``wanted``: the job's tensor_parallel_size. Raises UsageError if no machine has so many.
    """
    alike = [1 if card.is_laptop else number for number, card in asked]
    if not all(card.is_cpu for _, card in asked):
        refuse_spread(wanted, [[card] * one for one, (_, card) in zip(alike, asked, strict=True)])
    engines: dict[tuple[Card, int], int] = {}
    left = []
    for one, (number, card) in zip(alike, asked, strict=True):
        cards = spread(card, one)
        whole = number // cards if cards <= one else 0
        if whole:
            engines[card, cards] = engines.get((card, cards), 0) + whole
        if number > whole * cards:
            left.append(_left_over(card, number - whole * cards, cards))
    return [(number, card, cards) for (card, cards), number in engines.items()], left


def refuse_spread(wanted: int, machines: Sequence[Sequence[Card]]) -> None:
    """Raise UsageError if more equal cards are ``wanted`` than any of ``machines`` has."""
    kinds = [[card.name for card in cards] for cards in machines]
    if wanted == 1 or any(names.count(name) >= wanted for names in kinds for name in names):
        return
    there = "; ".join(dict.fromkeys(_in_words(cards) for cards in machines if cards)) or "none"
    raise UsageError(
        f"engine.tensor_parallel_size: {wanted} like cards of one machine are asked for; "
        f"there {'is' if there == 'none' else 'are'} {there}",
        "give fewer, or leave it out: then an engine takes as many as its model needs",
    )


def spread_in_words(card: Card, cards: int, number: int) -> str:
    """The message if the job did not ask for it."""
    engines = plural(number, "engine") + (", each" if number > 1 else "")
    slots = f"{engines} over {in_slot(card.title, cards)}"
    return f"{slots}: the model does not fit one card (engine.tensor_parallel_size {cards})"


def _in_words(cards: Sequence[Card]) -> str:
    titles = [card.title for card in cards]
    return " and ".join(f"{titles.count(title)}x {title}" for title in dict.fromkeys(titles))
