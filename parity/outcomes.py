"""What became of one planted fault."""

from dataclasses import asdict, dataclass

JUDGED, NO_EFFECT, RAISES = "judged", "no effect", "raises"


@dataclass(frozen=True)
class Outcome:
    """The result for one fault.

    Attributes:
        name: Which fault.
        group: The row of the table.
        operator: One of `operators.OPERATORS`, or ``by hand``.
        status: `JUDGED`; `NO_EFFECT` if no number of the run changes, so that there is nothing to
            find; `RAISES` if the run fails, so that nobody needs to find it.
        caught: Whether the models were said to differ.
        located: Whether the first place that is named is where the fault begins.
        difference: The known difference that explains it, or empty.
        diagnosed: Whether that difference was named.
        words: What was reported, if anything is wrong.
    """

    name: str
    group: str
    operator: str
    status: str = JUDGED
    caught: bool = False
    located: bool = False
    difference: str = ""
    diagnosed: bool = False
    words: str = ""

    @property
    def is_missed(self):
        """Whether the fault was not caught, not located, or not diagnosed although it is known."""
        is_complete = self.caught and self.located and (self.diagnosed or not self.difference)
        return self.status == JUDGED and not is_complete

    as_dict = asdict
