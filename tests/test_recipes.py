"""What a model is asked for the poems it learns from."""

from course_lib.batches import InstructionBatches
from course_lib.poems import Poem
from course_lib.recipes import recipe as recipes
from course_lib.roles import WRITE_A_POEM, WRITE_OLD_STYLE, plainly

# 王之渙 and 李紳: in every anthology; one keeps the rules of tone, the other does not.
REGULATED = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
OLD_STYLE = Poem("憫農", "李紳", ("鋤禾日當午，汗滴禾下土。", "誰知盤中飧，粒粒皆辛苦。"))


def test_regulated_verse_is_a_poem_and_the_rest_is_asked_for_by_name():
    assert recipes.naming_the_style(REGULATED) == WRITE_A_POEM
    assert recipes.naming_the_style(OLD_STYLE) == WRITE_OLD_STYLE


def test_a_card_says_how_its_model_was_taught():
    assert recipes.instruct_of({"old_style_instruction": WRITE_OLD_STYLE}) is recipes.naming_the_style
    assert recipes.instruct_of({"instruction": WRITE_A_POEM}) is plainly


def test_examples_carry_the_instruction_that_was_chosen(tokenizer, poems):
    def all_texts(**how):
        batches = InstructionBatches.from_poems(poems, tokenizer, context=64, batch_size=1, **how)
        return [tokenizer.decode(example.input_ids, show_controls=True) for example in batches.examples]

    assert all(text.startswith(f"<INS>{WRITE_A_POEM}<INP>") for text in all_texts())
    other = WRITE_A_POEM[::-1]
    assert all(text.startswith(f"<INS>{other}<INP>") for text in all_texts(instruct=lambda _: other))
