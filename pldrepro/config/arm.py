"""What an arm is to the analysis: its role, its treatment, the exhibits and questions that it belongs to.

The analysis and the exhibits know no arm by its name: they ask for the arm of a role, or for the arms of an exhibit.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from pldrepro.config.base import Name, Strict

Role = Literal["baseline", "pld", "preln_higher_lr", "preln", "baseline_higher_lr", "sbld", "scratch", "control"]
"""What an arm is in the comparisons of the papers, the most important first.

The ``_higher_lr`` roles: at PLD's learning rate; ``scratch``: the model as initialised; ``control``: SBLD or PLD with
one part replaced. Every role but ``control`` belongs to one arm of a study at most.
"""
ROLES: tuple[str, ...] = get_args(Role)


class ArmTags(Strict):
    """What an arm's YAML says of it to the analysis; all of it belongs to this arm only and is never inherited."""

    role: Role | None = Field(None, description="what the arm is in the comparisons of the papers")
    treatment: Name | None = Field(
        None, description="of a grid of epochs x treatment: what is done against overfitting; `neither`: nothing"
    )
    exhibits: dict[Name, int] = Field(
        {}, description="exhibit -> place of this arm among those that it shows; needless where all are shown"
    )
    questions: dict[Name, int] = Field(
        {}, description="question of a paper's reviews -> place of this arm in its answer"
    )
