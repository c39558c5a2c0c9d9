"""Rules quote what they put into a shell: folders and patterns may have spaces and quotes in their names."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = [REPOSITORY / "Snakefile", REPOSITORY / "workflow/Snakefile", *sorted((REPOSITORY / "workflow").rglob("*.smk"))]
SAFE = {"threads"}  # integers
SAFE |= {"params.length"}


def shell_texts(path: Path) -> list[str]:
    """The text of every shell directive of a file of rules."""
    found = re.findall(r'^ *shell:\n((?: +".*"\n)+)', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == path.read_text(encoding="utf-8").count("shell:")
    return ["".join(re.findall(r'^ +"(.*)"$', text, re.MULTILINE)) for text in found]


def test_shell_directives_quote_every_value_of_the_configuration() -> None:
    constrained = set(re.findall(r'^    (\w+)="\[A-Za-z0-9_\.-\]\+",$', RULES[0].read_text() + "".join(
        path.read_text(encoding="utf-8") for path in RULES), re.MULTILINE))  # fmt: skip
    assert {"arm", "checkpoint", "group"} <= constrained
    texts = [text for path in RULES for text in shell_texts(path)]
    assert len(texts) >= 15
    for text in texts:
        for placeholder in re.findall(r"{([^{}]+)}", text):
            wildcard = placeholder.removeprefix("wildcards.")
            safe = placeholder in SAFE or (wildcard != placeholder and wildcard in constrained | {"seed", "process"})
            assert safe or placeholder.endswith(":q"), text
        assert not re.search(r"\beval\b|\bbash -c\b|`", text)


def test_every_rule_that_trains_has_its_resources_in_both_profiles() -> None:
    """A rule that the cluster's profile forgets asks for GPUs of the partition that has none."""
    rules = re.findall(r"^rule (\w+):", Path("workflow/rules/training.smk").read_text("utf-8"), re.MULTILINE)
    assert {"calibrate", "interleave", "pretrain", "early"} <= set(rules)
    for profile in ("slurm", "slurm-test"):
        resources = yaml.safe_load(Path(f"profiles/{profile}/profile.yaml").read_text("utf-8"))["set-resources"]
        assert set(rules) <= set(resources), profile
        if profile == "slurm":
            assert {resources[rule]["slurm_partition"] for rule in rules} == {"gpu"}
