"""Demo pairs about meaning as a whole: paraphrase (MRPC), duplicate questions (QQP), similarity (STS-B)."""

from dataclasses import replace
from random import Random

from lora2.glue.demo.lexicon import Event, Lexicon, a, change_one, draw_event, other, sentence, tell

SLOTS = 4  # what `similarity` can replace: agent, verb, thing, place

_OPENINGS = {
    "why": ("why did", "for what reason did", "what was the reason that", "what explains that"),
    "how": ("how did", "in what way did", "what was the way in which", "by what means did"),
}


def paraphrase(rng: Random, lex: Lexicon, label: int) -> tuple[str, str]:
    """Tell one event twice (label 1), or two events that differ in one point (label 0)."""
    event = draw_event(rng, lex)
    return tell(rng, event), tell(rng, event if label == 1 else change_one(rng, lex, event))


def duplicate(rng: Random, lex: Lexicon, label: int) -> tuple[str, str]:
    """Word one question twice (label 1), or two that differ in the event or in what they ask for (label 0)."""
    event, asked = draw_event(rng, lex), rng.choice(("why", "how"))
    first = _ask(rng, event, asked)
    if label == 1:
        return first, _ask(rng, event, asked)
    if rng.random() < 0.25:
        return first, _ask(rng, event, "how" if asked == "why" else "why")
    return first, _ask(rng, change_one(rng, lex, event), asked)


def _ask(rng: Random, event: Event, asked: str) -> str:
    opening = rng.choice(_OPENINGS[asked])
    bare, past = rng.choice(event.verb)
    thing = a(f"{rng.choice(event.adjective)} {event.thing}")
    verb = bare if opening.endswith("did") else past
    return sentence(
        f"{opening} the {rng.choice(event.agent)} {verb} {thing} for the {rng.choice(event.partner)} {event.place}", "?"
    )


def similarity(rng: Random, lex: Lexicon, replaced: int) -> tuple[str, str]:
    """Tell an event twice, in short, with `replaced` of its `SLOTS` parts different."""
    event = draw_event(rng, lex)
    changed = event
    for slot in rng.sample(range(SLOTS), replaced):
        changed = _replace_slot(rng, lex, changed, slot)
    return _tell_in_short(rng, event), _tell_in_short(rng, changed)


def _replace_slot(rng: Random, lex: Lexicon, event: Event, slot: int) -> Event:
    match slot:
        case 0:
            return replace(event, agent=other(rng, lex.people, event.agent))
        case 1:
            return replace(event, verb=other(rng, lex.verbs, event.verb))
        case 2:
            category = other(rng, sorted(lex.things), event.category)
            return replace(event, category=category, thing=rng.choice(lex.things[category]))
    return replace(event, place=other(rng, lex.places, event.place))


def _tell_in_short(rng: Random, event: Event) -> str:
    agent, place, thing = rng.choice(event.agent), event.place, a(event.thing)
    _, past = rng.choice(event.verb)
    return sentence(
        rng.choice(
            (
                f"the {agent} {past} {thing} {place}",
                f"{place}, the {agent} {past} {thing}",
                f"{thing} was {past} by the {agent} {place}",
            )
        )
    )


def score(rng: Random, replaced: int) -> float:
    """Return the similarity, 0 to 5, that goes with `replaced`: the mean of five annotators who do not quite agree."""
    exact = 5 * (1 - replaced / SLOTS)
    return min(5.0, max(0.0, round(exact + rng.choice((-0.4, -0.2, 0.0, 0.2, 0.4)), 1)))
