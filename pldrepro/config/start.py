"""What a start of the workflow looks at before any job: data that are not there, an environment that is out of date."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pldrepro.config.data import ImageDataSettings
from pldrepro.config.study import Study
from pldrepro.errors import SettingsError

LAYOUT = "docs/running.md shows the layout"


def check_data(study: Study) -> None:
    """SettingsError where a study reads files of its user's own and they are not there; prepared data need none."""
    data = study.data()
    if data.source != "files" or Path(f"{study.results}/data/{study.prepared}/manifest.json").exists():
        return
    wanted = data_patterns(study)
    expected = f"expected --config data_root=DIR with {', '.join(f'DIR/{pattern}' for pattern in wanted)}; {LAYOUT}"
    if data.root is None:
        raise SettingsError(f"study {study.settings.scale}: data_root: missing; {expected}")
    root = Path(data.root)
    if not root.is_dir():
        raise SettingsError(f"study {study.settings.scale}: data_root: {root}: no such folder; {expected}")
    relative = [pattern for pattern in wanted if not Path(pattern).is_absolute()]  # others are refused by their reader
    if missing := [pattern for pattern in relative if next(root.glob(pattern), None) is None]:
        raise SettingsError(f"study {study.settings.scale}: no {', '.join(missing)} below {root}; {expected}")


def data_patterns(study: Study) -> list[str]:
    """The files that a study of its user's own data reads, as patterns below data_root."""
    data = study.data()
    if isinstance(data, ImageDataSettings):
        return [name for name in (data.train, data.validation) if name is not None]
    lambada = [data.lambada] if data.lambada is not None else []
    return [*data.text, *([f"{data.glue}/*/train.tsv*"] if study.finetune_runs() else []), *lambada]


def outdated(environment: Path, requirements: Path = Path("requirements.txt")) -> str | None:
    """What to do where `make setup` made an environment from other requirements than today's; None: nothing.

    The stamp is a copy of the requirements that were installed.
    """
    stamp = environment / ".installed"
    if not (stamp.is_file() and requirements.is_file()):
        return None
    installed = stamp.read_text(encoding="utf-8")
    if not installed or installed == requirements.read_text(encoding="utf-8"):
        return None
    return f"{environment} was installed from an earlier requirements.txt: `make setup` brings it up to date"


def put_python_first() -> None:
    """Jobs call ``python``: that of Snakemake, active or not. Environments of conda come before it."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
