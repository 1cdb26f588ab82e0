"""Demo pairs about what follows from what: MNLI, RTE and the answerable questions of QNLI."""

from dataclasses import replace
from random import Random

from lora2.glue.demo.lexicon import Event, Lexicon, a, draw_event, other, sentence, tell

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)

# (premise holds?, what it names, hypothesis holds?, what it names): `hypo` a violin, `hyper` an instrument, `sister` a
# drum. A violin was bought => an instrument was; no instrument was => no violin was; the converses do not follow.
# Either polarity occurs on either side under every label, so the word "not" alone tells nothing.
_Rule = tuple[bool, str, bool, str]
_RULES: dict[int, tuple[_Rule, ...]] = {
    ENTAILMENT: ((True, "hypo", True, "hyper"), (False, "hyper", False, "hypo")),
    NEUTRAL: (
        (True, "hyper", True, "hypo"),
        (False, "hypo", False, "hyper"),
        (True, "hypo", True, "sister"),
        (True, "hypo", False, "sister"),
        (False, "hypo", True, "sister"),
    ),
    CONTRADICTION: (
        (True, "hypo", False, "hyper"),
        (False, "hyper", True, "hypo"),
        (True, "hypo", False, "hypo"),
        (False, "hypo", True, "hypo"),
    ),
}


def inference(rng: Random, lex: Lexicon, label: int) -> tuple[str, str]:
    """Make a premise and a hypothesis that stand in the relation `label`."""
    event = draw_event(rng, lex)
    sister = other(rng, lex.things[event.category], event.thing)
    named = {"hypo": event.thing, "hyper": event.category, "sister": sister}
    holds, premise, follows, hypothesis = rng.choice(_RULES[label])
    # A time of its own makes a true premise only stronger, but would make a negated one weaker.
    time = f" {event.time}" if holds else ""
    return (
        sentence(_claim(rng, event, named[premise], holds) + time),
        sentence(_claim(rng, event, named[hypothesis], follows)),
    )


def _claim(rng: Random, event: Event, thing: str, holds: bool) -> str:
    agent = rng.choice(event.agent)
    bare, past = rng.choice(event.verb)
    if holds:
        return f"the {agent} {past} {rng.choice((a(thing), f'some {thing} or other'))} {event.place}"
    return rng.choice(
        (
            f"the {agent} did not {bare} {rng.choice(('any', 'a single'))} {thing} {event.place}",
            f"the {agent} never {past} {a(thing)} {event.place}",
            f"not a single {thing} was {past} by the {agent} {event.place}",
        )
    )


def two_class(rng: Random, lex: Lexicon, label: int) -> tuple[str, str]:
    """Make a premise with a second, unrelated event, and a hypothesis that follows (label 0) or not (label 1)."""
    relation = ENTAILMENT if label == 0 else rng.choice((NEUTRAL, CONTRADICTION))
    premise, hypothesis = inference(rng, lex, relation)
    aside = tell(rng, draw_event(rng, lex))
    return " ".join(rng.sample((premise, aside), 2)), hypothesis


def answerable(rng: Random, lex: Lexicon, label: int) -> tuple[str, str]:
    """Make a question and a sentence that answers it (label 0) or not (label 1).

    A sentence that does not answer lacks the part asked for, or tells another event.
    """
    event = draw_event(rng, lex)
    asked = rng.choice(("who", "what", "where", "when"))
    question = _question(rng, event, asked)
    answer, beside = (event.time, event.place) if asked == "when" else (event.place, event.time)
    if label == 0:
        return question, _report(rng, event, answer)
    if asked in ("where", "when") and rng.random() < 0.5:
        return question, _report(rng, event, beside)
    return question, _report(rng, _near_miss(rng, lex, event), answer)


def _question(rng: Random, event: Event, asked: str) -> str:
    agent, partner = rng.choice(event.agent), rng.choice(event.partner)
    bare, past = rng.choice(event.verb)
    match asked:
        case "who":
            text = f"who {past} {a(event.category)} for the {partner}"
        case "what":
            text = f"what did the {agent} {bare} for the {partner}"
        case _:
            text = f"{asked} did the {agent} {bare} {a(event.category)} for the {partner}"
    return sentence(text, "?")


def _report(rng: Random, event: Event, circumstance: str) -> str:
    """Tell the event with one circumstance, its place or its time."""
    agent, partner = rng.choice(event.agent), rng.choice(event.partner)
    _, past = rng.choice(event.verb)
    return sentence(
        rng.choice(
            (
                f"{circumstance}, the {agent} {event.manner} {past} {a(event.thing)} for the {partner}",
                f"the {agent} {event.manner} {past} {a(event.thing)} for the {partner} {circumstance}",
                f"{a(event.thing)} was {event.manner} {past} by the {agent} for the {partner} {circumstance}",
            )
        )
    )


def _near_miss(rng: Random, lex: Lexicon, event: Event) -> Event:
    """Make an event that answers no question about `event`: another deed of the agent, or the people exchanged."""
    if rng.random() < 0.25:
        return replace(event, agent=event.partner, partner=event.agent)
    deed = replace(event, verb=other(rng, lex.verbs, event.verb))
    if rng.random() < 0.33:
        return deed
    category = other(rng, sorted(lex.things), event.category)
    partner = other(rng, lex.people, event.agent, event.partner)
    return replace(deed, partner=partner, category=category, thing=rng.choice(lex.things[category]))
