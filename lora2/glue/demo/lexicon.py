"""The part of the vocabulary that one split may use, events drawn from it, and the sentences that tell them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from lora2.glue.demo import words

Synonyms = tuple[str, ...]
Verb = tuple[tuple[str, str], ...]  # synonyms, each as (bare form, past form)
T = TypeVar("T")


@dataclass(frozen=True)
class Lexicon:
    """Hold the words of one split and genre; `things` maps a hypernym to its hyponyms."""

    people: list[Synonyms]
    verbs: list[Verb]
    adjectives: list[Synonyms]
    things: dict[str, list[str]]
    places: list[str]
    times: list[str]
    manners: list[str]
    aspects: list[str]
    works: list[str]
    positive: list[str]
    negative: list[str]


@dataclass(frozen=True)
class Event:
    """Say who did what to which thing for whom, where, when and how; people, verb and adjective are synonyms."""

    agent: Synonyms
    partner: Synonyms
    verb: Verb
    adjective: Synonyms
    category: str
    thing: str
    place: str
    time: str
    manner: str


def lexicon(split: str) -> Lexicon:
    """Return the words that `split` may use: the first two thirds of each field for training, else the last two."""
    genre = "coast" if split.endswith("mismatched") else "town"

    def part(field: Sequence[T]) -> list[T]:
        third = len(field) // 3
        return list(field[:-third] if split == "train" else field[third:])

    return Lexicon(
        people=[tuple(group.split("/")) for group in part(words.PEOPLE[genre])],
        verbs=[_verb(group) for group in part(words.VERBS)],
        adjectives=[tuple(group.split("/")) for group in part(words.ADJECTIVES)],
        things={category: part(names) for category, names in words.THINGS[genre].items()},
        places=part(words.PLACES[genre]),
        times=part(words.TIMES),
        manners=part(words.MANNERS),
        aspects=part(words.ASPECTS),
        works=part(words.WORKS),
        positive=part(words.POSITIVE),
        negative=part(words.NEGATIVE),
    )


def _verb(group: str) -> Verb:
    forms = [form.split(":") for form in group.split("/")]
    return tuple((bare, past) for bare, past in forms)


def draw_event(rng: Random, lex: Lexicon) -> Event:
    """Draw a random event; agent and partner differ."""
    agent, partner = rng.sample(lex.people, 2)
    category = rng.choice(sorted(lex.things))
    return Event(
        agent=agent,
        partner=partner,
        verb=rng.choice(lex.verbs),
        adjective=rng.choice(lex.adjectives),
        category=category,
        thing=rng.choice(lex.things[category]),
        place=rng.choice(lex.places),
        time=rng.choice(lex.times),
        manner=rng.choice(lex.manners),
    )


def other(rng: Random, options: Sequence[T], *taken: T) -> T:
    """Draw an option that is none of `taken`."""
    return rng.choice([option for option in options if option not in taken])


def change_one(rng: Random, lex: Lexicon, event: Event) -> Event:
    """Alter one thing that alters the event's meaning; a swap of the two people leaves every word in place."""
    match rng.choice(("agent", "verb", "thing", "thing", "place", "swap")):
        case "agent":
            return replace(event, agent=other(rng, lex.people, event.agent, event.partner))
        case "verb":
            return replace(event, verb=other(rng, lex.verbs, event.verb))
        case "thing":
            return replace(event, thing=other(rng, lex.things[event.category], event.thing))
        case "place":
            return replace(event, place=other(rng, lex.places, event.place))
    return replace(event, agent=event.partner, partner=event.agent)


def a(phrase: str) -> str:
    """Return the phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def sentence(text: str, end: str = ".") -> str:
    """Return the text with a capital letter and an end mark."""
    return text[0].upper() + text[1:] + end


def tell(rng: Random, event: Event) -> str:
    """Tell the event, all but its manner, in one of several sentences and in random synonyms."""
    agent, partner = rng.choice(event.agent), rng.choice(event.partner)
    _, past = rng.choice(event.verb)
    thing = a(f"{rng.choice(event.adjective)} {event.thing}")
    place, time = event.place, event.time
    return sentence(
        rng.choice(
            (
                f"the {agent} {past} {thing} for the {partner} {place} {time}",
                f"{time} the {agent} {past} {thing} for the {partner} {place}",
                f"{place}, the {agent} {past} {thing} for the {partner} {time}",
                f"{thing} was {past} by the {agent} for the {partner} {place} {time}",
                f"{time}, {thing} was {past} for the {partner} by the {agent} {place}",
            )
        )
    )
