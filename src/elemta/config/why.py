"""The settings of the records of decisions."""

from typing import Annotated

from elemta.config.sections import Section, fixed
from elemta.config.units import DAY
from elemta.config.values import Duration, Size, Switch


class WhyConfig(Section):
    """The records of why mail was taken or refused: `elemta why` shows them."""

    enabled: Annotated[
        Switch,
        fixed(
            "Write a record of each decision, and tell those who are refused its id. Without it a"
            " refusal has no id, but for the failure of a plugin."
        ),
    ] = True
    keep: Annotated[Duration, fixed("How long records are kept.", gt=0)] = 14 * DAY
    max_size: Annotated[
        Size,
        fixed("How large their database may become; the oldest records go first.", ge=2**20),
    ] = 500_000_000
