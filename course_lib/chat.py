"""A conversation with a model, one message and one answer at a time: for the chat box and the command `chat`."""

from course_lib.checkpoints import Checkpoint
from course_lib.generation import PoemStream, reply, room_in, settings_for
from course_lib.instructions import Instruction
from course_lib.language import say, sentences
from course_lib.roles import Message, within
from course_lib.sampling import GenerationSettings
from course_lib.titles import read_given


class Chat:
    """A conversation. `messages` has all of it, the system line first; `heard` has what the model read last.

    `instruction` says what the first message is: a title, a line or a poem. `system` replaces its wording.
    """

    def __init__(self, checkpoint: Checkpoint, instruction: Instruction, system: str | None = None, seed: int = 0):
        self.checkpoint, self.instruction, self.seed = checkpoint, instruction, seed
        self.system = instruction.wording if system is None else system.strip()  # as it was typed
        kind = "text" if instruction.given == "text" or self.system == instruction.wording else "message"
        read, self._notes = read_given(self.system, kind, checkpoint.tokenizer)
        self.messages = [Message(role="system", content=read)]
        self.heard = list(self.messages)
        self.context = checkpoint.context  # in characters and marks, with the answer

    def ask(self, typed: str) -> str:
        """Add a message of the user. Returns sentences on what was changed in it, or on what is unknown.

        A message without an answer is replaced. Raises ValueError if there is nothing to read, or more than fits into
        the context. Then nothing is added.
        """
        before = self.messages[:-1] if self.messages[-1]["role"] == "user" else self.messages
        is_first, given = len(before) == 1, self.instruction.given
        kind = given if is_first or given == "text" else "message"
        text, notes = read_given(typed, kind, self.checkpoint.tokenizer)
        if not text:
            raise ValueError(sentences(*notes))
        if is_first and self.system and self._notes:
            notes += (say("In the system line:"), *self._notes)
        messages = [*before, Message(role="user", content=text)]
        within(messages, room_in(self.checkpoint))  # raises ValueError
        self.messages = messages
        return sentences(*notes)

    def again(self) -> None:
        """Take the last answer back. The next one has the next seed. Raises ValueError if nothing was asked yet."""
        if len(self.messages) == 1:
            raise ValueError(say("There is no message to answer yet."))
        if self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        self.seed += 1

    def reply(self) -> PoemStream:
        """The answer to the last message, character by character. Give its text to `answered`."""
        self.heard = within(self.messages, room_in(self.checkpoint))
        first = self.instruction if len(self.messages) == 2 else None
        return reply(self.checkpoint, self.heard, settings_for(first, GenerationSettings(seed=self.seed)))

    def answered(self, text: str) -> None:
        """Add an answer to the conversation, unless it is empty."""
        answers = [Message(role="assistant", content=text)] if text else []
        self.messages += answers
        self.heard += answers
