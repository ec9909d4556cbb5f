"""The exercises of notebook 06: does it rhyme, is it copied, and how sure are we?"""

from collections.abc import Iterator
from functools import cache

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.checks.verdict import Answer, Judged, exercise, number
from course_lib.evaluation import bootstrap_mean
from course_lib.generation import iter_poems
from course_lib.language import say, sentences
from course_lib.poems import load_poems
from course_lib.prosody import is_well_formed
from course_lib.sampling import GenerationSettings

# Each word with its level-tone groups; each group is one character. 雪 and 月 are in none.
GROUPS = {"聲": "庚", "明": "庚", "光": "陽", "花": "麻", "涯": "麻佳支", "家": "麻", "柴": "佳", "雪": "", "月": ""}
GROUPS |= {"還": "刪先", "灣": "刪寒", "乾": "寒先"}


@exercise("one group must hold all words, and a word does not rhyme with itself.")
def rhyming(answer: Answer) -> Iterator[str]:
    """Whether words rhyme, given the rhyme groups of each."""
    cases = [
        ("聲明", True, say("聲 and 明 are both in 庚, so they rhyme")),
        ("花涯家", True, say("涯 has several groups; one that it shares with all others is enough")),
        ("花柴涯", False, say("花 and 涯 share a group, but 柴 is not in it: look at every word")),
        ("聲明光", False, say("look at every word, not only at the first two")),
        ("還灣乾", False, say("every two of them share a group, but does one group hold all three?")),
        ("聲明聲", False, say("聲 comes twice, and a word does not rhyme with itself")),
        ("明聲聲", False, say("聲 comes twice, and a word does not rhyme with itself")),
        ("雪月", False, say("neither word is in a level-tone group, so they share none and do not rhyme")),
        ("聲", False, say("a single word has nothing to rhyme with")),
    ]
    for words, expected, hint in cases:
        groups = {word: set(own) for word, own in GROUPS.items()}
        if bool(answer(list(words), groups)) is not expected:
            yield f"{words}: {hint}"


@exercise("only characters in a row count. Two texts may use the same characters without copying.")
def longest_run(answer: Answer) -> Iterator[str]:
    """The number of characters in a row that two texts share."""
    cases = [
        ("春夜", "春夜", 2, say("the two are the same, so all of it is shared")),
        ("春夜喜雨", "江夜喜山", 2, say("夜喜 stands in both")),
        ("喜雨春", "江上喜雨", 2, say("a run may begin at another place in the other text")),
        ("好雨知時節", "雨好時知節", 1, say("the same characters in another order are not a run")),
        ("明月松間照", "明山月水松", 1, say("a run has no gaps: in the second text 明, 月 and 松 are apart")),
        ("夜雨夜雨聲", "聞夜雨聲", 3, say("夜雨 at the first place does not go on, but 夜雨聲 at a later place does")),
        ("山水", "花月", 0, say("nothing is shared")),
    ]
    for text, other, expected, hint in cases:
        found = number(returned := answer(text, other))
        if found != expected or isinstance(returned, bool):
            case = {"text": text, "other": other, "n": expected, "found": returned, "hint": hint}
            yield say("{text} and {other} share {n} in a row, you returned {found}: {hint}", **case)


@cache
def written(settings: GenerationSettings) -> list[str]:
    """What the course's model writes on twenty test titles. A learner tries more than once, so the texts are kept."""
    titles = [poem.title for poem in load_poems("test")[:20]]
    return [poem.text for poem in iter_poems(load_checkpoint(paths.FINETUNED), titles, settings)]


def experiments() -> Iterator[tuple[str, list[str], list[str]]]:
    """Names, each with the usual poems and others. The first two pairs are made up: they touch, and they do not."""
    for total, *counts in ((20, 13, 7), (100, 45, 70)):  # so many are well formed
        usual, others = (["白日依山盡，黃河入海流。"] * n + ["白日。"] * (total - n) for n in counts)
        yield say("{count} made-up poems", count=total), usual, others
    hot, seed = GenerationSettings(temperature=1.6, top_p=1.0, max_new_tokens=80), GenerationSettings(seed=1)
    for name, settings in ((say("temperature 1.6"), hot), (say("another seed"), seed)):
        yield name, list(written(GenerationSettings())), list(written(settings))


@exercise()
def experiment(answer: Answer) -> Iterator[str]:
    """Poems under the usual settings and under others: do the intervals of their share in good form part?"""
    told = ""
    for name, *texts in experiments():
        means = [bootstrap_mean([is_well_formed(text) for text in written]) for written in texts]
        (low, high), (other_low, other_high) = (mean.interval for mean in means if mean and mean.interval)
        n = {"low": low, "high": high, "to": other_high, "name": name, "from_": other_low}
        told = sentences(told, say("{name}: {from_:.0%} to {to:.0%}, beside the usual {low:.0%} to {high:.0%}.", **n))
        if (found := answer(*texts)) != (parted := high < other_low or other_high < low):
            touch = say("The last two intervals do not touch") if parted else say("The last two intervals touch")
            yield sentences(told, say("{touch}; you returned {found}", touch=touch, found=found))
    raise Judged("right", sentences(told, say("Where two intervals touch, the difference may be chance.")))
