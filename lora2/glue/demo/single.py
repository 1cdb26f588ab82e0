"""Demo sentences on their own: acceptability (CoLA) and sentiment (SST-2)."""

from random import Random

from lora2.glue.demo.lexicon import Event, Lexicon, a, draw_event, sentence


def acceptability(rng: Random, lex: Lexicon, label: int) -> tuple[str]:
    """Make a grammatical sentence (label 1), or one with a single fault (label 0) and no word that betrays it."""
    event, good = draw_event(rng, lex), label == 1
    text = rng.choice((_tense, _agreement, _reflexive, _gap, _order, _order, _order))(rng, lex, event, good)
    return (text,)


def _tense(rng: Random, lex: Lexicon, event: Event, good: bool) -> str:
    """`has` wants the participle, `did not` the bare form."""
    bare, past = rng.choice(event.verb)
    auxiliary, right, wrong = rng.choice((("has", past, bare), ("did not", bare, past)))
    return sentence(
        f"the {rng.choice(event.agent)} {auxiliary} {right if good else wrong} {a(event.thing)} {event.place}"
    )


def _agreement(rng: Random, lex: Lexicon, event: Event, good: bool) -> str:
    """The verb agrees with its subject, not with the noun that stands next to it."""
    plural = rng.random() < 0.5
    near = _number(event.thing, rng.random() < 0.5)
    were = plural == good
    subject = _number(rng.choice(event.agent), plural)
    verb = "were" if were else "was"
    return sentence(f"the {subject} near the {near} {verb} {rng.choice(('here', 'alone', 'late'))} {event.time}")


def _reflexive(rng: Random, lex: Lexicon, event: Event, good: bool) -> str:
    """A reflexive agrees with the subject of its own clause."""
    plural = rng.random() < 0.5
    themselves = plural == good
    subject, bystander = _number(rng.choice(event.agent), plural), _number(rng.choice(event.partner), not plural)
    pronoun = "themselves" if themselves else "himself"
    return sentence(f"the {subject} {rng.choice(event.verb)[1]} {pronoun} in front of the {bystander} {event.time}")


def _gap(rng: Random, lex: Lexicon, event: Event, good: bool) -> str:
    """A question for the object leaves the object's place empty; a yes-no question fills it."""
    asks_object = rng.random() < 0.5
    thing = f" the {event.thing}" if asks_object != good else ""
    opening, verb = "what did" if asks_object else "did", rng.choice(event.verb)[0]
    return sentence(f"{opening} the {rng.choice(event.agent)} {verb}{thing} {event.place}", "?")


def _order(rng: Random, lex: Lexicon, event: Event, good: bool) -> str:
    """Article, adjective, noun: in this order only."""
    subject, verb, adjective = rng.choice(event.agent), rng.choice(event.verb)[1], rng.choice(event.adjective)
    tokens = ["the", subject, event.manner, verb, "the", adjective, event.thing]
    if not good:
        for at in rng.choice(((0,), (4,), (5,), (0, 4), (0, 5), (3,))):
            tokens[at], tokens[at + 1] = tokens[at + 1], tokens[at]
    return sentence(f"{' '.join(tokens)} {event.place}")


_IRREGULAR = {"child": "children", "policeman": "policemen", "thief": "thieves"}


def _number(noun: str, plural: bool) -> str:
    if not plural:
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def sentiment(rng: Random, lex: Lexicon, label: int) -> tuple[str]:
    """Make a remark on a film that is positive (label 1) or negative (label 0) as a whole.

    Half of the remarks hold words of either kind.
    """
    same, opposite = (lex.positive, lex.negative) if label == 1 else (lex.negative, lex.positive)
    word, second = rng.sample(same, 2)
    return (rng.choice((_plain, _turned))(rng, lex, word, second, rng.choice(opposite)),)


def _plain(rng: Random, lex: Lexicon, word: str, second: str, _: str) -> str:
    work = rng.choice(lex.works)
    aspect, aspect2 = rng.sample(lex.aspects, 2)
    return rng.choice(
        (
            f"{a(word)} {work} whose {aspect} is {second}",
            f"the {aspect} is {word} and the {aspect2} is {second}",
            f"with its {second} {aspect}, this is {a(word)} {work}",
        )
    )


def _turned(rng: Random, lex: Lexicon, word: str, second: str, contrary: str) -> str:
    """Make a remark that denies the contrary, or concedes it and goes on."""
    work, aspect = rng.choice(lex.works), rng.choice(lex.aspects)
    return rng.choice(
        (
            f"the {aspect} of this {work} is anything but {contrary}",
            f"nobody could call this {word} {work} {contrary}",
            f"although the {aspect} is {contrary}, the {work} as a whole is {word} and {second}",
            f"the {work} remains {word} even when its {aspect} turns {contrary}",
        )
    )
