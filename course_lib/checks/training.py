"""The exercises of notebooks 03 and 04, the base model and the loop that fine-tunes it; and those that train."""

from collections.abc import Iterator, Sequence
from math import isclose

import torch
from torch.nn.functional import cross_entropy

from course_lib import paths
from course_lib.batches import IGNORE, Example, InstructionBatches, make_example
from course_lib.checkpoints import Checkpoint, load_checkpoint
from course_lib.checks.verdict import Answer, Judged, exercise, number
from course_lib.engine import Machine
from course_lib.generation import iter_poems
from course_lib.instructions import POEM
from course_lib.language import say, sentences
from course_lib.losses import next_tokens
from course_lib.poems import load_poems
from course_lib.prosody import split_lines
from course_lib.recipes import Recipe
from course_lib.roles import example_segments
from course_lib.sampling import GenerationSettings
from course_lib.training import Trainer, TrainingSettings

CONTEXT = 128  # tokens; less than the model can read, so that ten steps take seconds


def ten_steps(checkpoint: Checkpoint, examples: Sequence[Example]) -> list[float]:
    """Train `checkpoint` in place for ten steps of one row. Returns the loss before each, in nats per learned token."""
    rows = InstructionBatches(examples, pad_id=checkpoint.tokenizer.pad_id, context=CONTEXT, batch_size=1)
    settings = TrainingSettings(steps=10, learning_rate=3e-4, warmup_steps=1, weight_decay=0.0)
    machine = Machine(torch.device("cpu"), torch.float32)
    return [report.loss.response for report in Trainer(Recipe("exercise", checkpoint, rows), settings, machine)]


@exercise()
def keywords(answer: Answer) -> Iterator[str]:
    """A tokenizer with three keywords of one's own and a prompt in them: does a model learn from them as from ours?"""
    poems = [poem for poem in load_poems("validation") if len(poem.lines) == 4][:2]
    words = ("[導演]", "[題目]", "[詩人]")
    base = load_checkpoint(paths.BASE).with_roles()
    ours = [make_example(base.tokenizer, example_segments(poem), CONTEXT) for poem in poems]
    yours = []
    for poem, example in zip(poems, ours, strict=True):
        tokenizer, prompt = answer(list(words), POEM.wording, poem.title)
        if missing := [word for word in words if word not in tokenizer.special_tokens.values()]:
            yield say("your tokenizer has no special token {it}; add_role_tokens adds keywords", it=missing[0])
        response = [label for label in example.labels if label != IGNORE]
        reads = tokenizer.decode(prompt, show_special_tokens=True)
        if reads != (wanted := f"{words[0]}{POEM.wording}{words[1]}{poem.title}{words[2]}"):
            yield say("your prompt reads {reads}; it should read {wanted}", reads=reads, wanted=wanted)
        n = {"yours": len(prompt), "ours": len(example.labels) - len(response)}
        if n["yours"] != n["ours"]:
            yield say("your prompt has {yours} ids, ours {ours}: each keyword must be one id: use encode_segments", **n)
        if max(prompt) >= len(base.tokenizer):
            yield say("the model has rows for three new tokens; begin with a tokenizer that has no role tokens yet")
        yours.append(Example(prompt + response, example.labels))
    theirs, own = (ten_steps(load_checkpoint(paths.BASE).with_roles(), examples) for examples in (ours, yours))
    loss = {"a": theirs[0], "b": theirs[-1], "c": own[-1]}
    told = say("in ten steps the loss falls from {a:.3f} to {b:.3f} with our keywords, {c:.3f} with yours.", **loss)
    raise Judged("right", sentences(told, say("The model sees only ids, so it learns the same under any keywords.")))


@exercise("a layer has four square matrices, three matrices of the MLP and two norms.")
def layer_parameters(answer: Answer) -> Iterator[str]:
    """The number of parameters in one layer."""
    for size, inner in ((256, 704), (8, 20), (8, 8)):
        found = number(answer(size, inner))
        attention, mlp, norms = 4 * size * size, 3 * size * inner, 2 * size
        if found == attention + mlp + norms:
            continue
        if found == attention + mlp:
            yield say("the two norms are missing: they have one weight for each channel")
        if found == 3 * size * size + mlp + norms:
            yield say("one matrix is missing: after query, key and value, o_proj leads out of attention")
        if found == attention + 2 * size * inner + norms:
            yield say("this MLP has a gate: how many of the layer's names above begin with mlp?")
        n = {"size": size, "inner": inner, "found": found}
        yield say("for hidden size {size}, inner size {inner} you returned {found:,}; go through the names above", **n)


@exercise("every old id keeps its row, and each new row is the mean of the old rows.")
def grown_embedding(answer: Answer) -> Iterator[str]:
    """An embedding with new rows below the old ones."""
    for rows, count in (([[1.0, 5.0, 0.0], [3.0, -1.0, 6.0]], 3), ([[0.0, 1.0], [4.0, 9.0], [2.0, -1.0]], 2)):
        old = torch.tensor(rows)
        found, mean = torch.tensor(answer(old.clone(), count), dtype=torch.float32), old.mean(dim=0)
        if found.shape != (len(old) + count, old.shape[1]):
            n = {"count": count, "shape": tuple(found.shape)}
            yield say("there must be {count} rows more, and as many channels; your shape is {shape}", **n)
        if torch.allclose(found[-len(old) :], old) and not torch.allclose(found[: len(old)], old):
            yield say("the new rows stand before the old ones, so every old id now means another character")
        if not torch.allclose(found[: len(old)], old):
            yield say("the old rows must stay unchanged: they are what the base model has learned")
        if not torch.allclose(found[len(old) :], mean.expand(count, -1), atol=1e-4):
            yield say("each new row must be the mean over all old rows, channel by channel")


@exercise("with all logits equal, each of V tokens has the probability 1/V, and the loss is log V on any text.")
def even_odds(answer: Answer) -> Iterator[str]:
    """The base model with one array changed, so that all tokens are equally likely; and the loss it then has."""
    model = load_checkpoint(paths.BASE).model
    before = {name: array.clone() for name, array in model.state_dict().items()}
    predicted = number(answer(model))
    changed = [name for name, array in model.state_dict().items() if not torch.equal(array, before[name])]
    if len(changed) != 1:
        yield say("change one array of the model that you get, in place; you changed {n}", n=len(changed))
    ids = torch.arange(100, 150)
    with torch.inference_mode():
        logits = model(ids[None])[0]
    loss = cross_entropy(logits[:-1], ids[1:]).item()
    if not (logits.amax(-1) - logits.amin(-1)).max() < 1e-3:
        it = changed[0]
        yield say("you changed {it}, but some tokens are still likelier; which array decides the last product?", it=it)
    if not isclose(predicted, loss, abs_tol=2e-4):
        n = {"n": logits.shape[-1], "found": predicted}
        yield say("{n:,} tokens are equally likely; the loss is a natural logarithm, to 3 decimals, not {found:g}", **n)


@exercise("the loss at t belongs to the token at t + 1, so the labels are shifted before they select the losses.")
def response_loss(answer: Answer) -> Iterator[str]:
    """The mean loss over the learned tokens, from the losses of all places and the labels."""
    labels = torch.tensor([[4, IGNORE, 7, 8, 2], [3, 5, 2, IGNORE, IGNORE]])
    losses = torch.tensor([[9.0, 1.0, 2.0, 4.0, 6.0], [3.0, 6.0, 9.0, 9.0, 7.0]])
    found = number(answer(losses.clone(), labels.clone()))
    learned = next_tokens(labels) != IGNORE
    if isclose(found, losses[learned].mean().item(), rel_tol=1e-4):
        return
    if isclose(found, losses[labels != IGNORE].mean().item(), rel_tol=1e-4):
        yield say("the loss at t is for predicting the token at t + 1: whose label decides whether it counts?")
    if isclose(found, losses.mean().item(), rel_tol=1e-4):
        yield say("this is the mean over all places; leave out the prompt and the padding")
    if isclose(found, (losses * learned).mean().item(), rel_tol=1e-4):
        yield say("you added up the right losses; divide by their number, not by the number of all places")
    wrapped = (labels.roll(-1, 1), next_tokens(labels.view(1, -1)).view_as(labels))
    if any(isclose(found, losses[moved != IGNORE].mean().item(), rel_tol=1e-4) for moved in wrapped):
        yield say("nothing is predicted at the last place of a row, but your shift brings a first label there")
    yield say("the mean over the learned tokens is not {n:.3f}; which five losses belong to 7, 8, 2, 5 and 2?", n=found)


@exercise("the free tokens cost nothing but are counted, so the mean falls although no poem is better.")
def diluted_loss(answer: Answer) -> Iterator[str]:
    """The mean loss of a poem and of free tokens before it."""
    for loss, learned, free in ((4.4, 48, 16), (3.0, 10, 30)):
        found = number(answer(loss, learned, free))
        if isclose(found, loss * learned / (learned + free), rel_tol=1e-3):
            continue
        if isclose(found, loss, rel_tol=1e-3):
            yield say("the sum of the losses stays the same, but the mean is now taken over more tokens")
        if isclose(found, loss / 2, rel_tol=1e-3):
            yield say("the mean of the two means is right only if both parts have the same number of tokens")
        case = {"found": found, "learned": learned, "loss": loss, "free": free}
        yield say("you returned {found:.3f} for the mean of {learned} tokens at {loss} and {free} tokens at 0", **case)


@exercise()
def one_couplet(answer: Answer) -> Iterator[str]:
    """Poems of one couplet: how long are the poems of a model that has learned from them?"""
    checkpoint = load_checkpoint(paths.FINETUNED)
    poems = [poem for poem in load_poems("validation") if len(poem.lines) == 8][:60]
    changed = answer(poems.copy())
    if len(changed) != len(poems):
        n = {"n": len(poems), "found": len(changed)}
        yield say("return a list of poems, one for each of the {n} that you get; yours has {found}", **n)
    for poem, new in zip(poems, changed, strict=True):
        if new.title != poem.title or "".join(new.lines) not in "".join(poem.lines):
            case = {"title": poem.title, "found": new.title, "text": new.text}
            yield say("{title!r} became {found!r}, {text!r}: keep the title, and take a couplet of that poem", **case)
    ten_steps(checkpoint, [make_example(checkpoint.tokenizer, example_segments(p), CONTEXT) for p in changed])
    titles = [poem.title for poem in load_poems("test")]
    written = list(iter_poems(checkpoint, titles[:8], GenerationSettings(max_new_tokens=80)))
    couplets = [p.reason == "end" and len(split_lines(p.text)) == 2 and "\n" not in p.text for p in written]
    seen = {"n": sum(couplets), "text": written[0].text}
    told = say("after ten steps {n} of eight poems are one couplet; the first is {text!r}.", **seen)
    if sum(couplets) < 6:
        yield sentences(told, say("What does the first of your training poems look like?"))
    raise Judged("right", sentences(told, say("Nobody told it a length: it learned from your examples when to end.")))
