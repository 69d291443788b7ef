"""The planner's answer as one HTML file that needs no network."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import msgspec

from tidegate.cli import plan_text
from tidegate.errors import ConfigError
from tidegate.plan import model
from tidegate.plan.answer import Answer, Compared, Input
from tidegate.plan.fields import FIELDS


def require_plots() -> None:
    """Raise ConfigError before any work where the page could not be written after it."""
    if importlib.util.find_spec("plotly") is None:
        raise ConfigError("--html needs tidegate[report]")


def write(path: Path, told: Answer | Compared) -> None:
    """Write the page to `path`. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(told), encoding="utf-8")


def page(told: Answer | Compared) -> str:
    """The page."""
    from plotly.offline import get_plotlyjs

    here = files("tidegate.cli")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        name: getattr(plan_text, name) for name in ("days", "bits", "number", "share")
    }
    environment.tests["starting"] = str.startswith
    answers = (told.a, told.b) if isinstance(told, Compared) else (told,)
    template = environment.from_string((here / "plan_report.html").read_text(encoding="utf-8"))
    return template.render(
        plotly=get_plotlyjs(),
        title=" or ".join(answer.title for answer in answers),
        answers=answers,
        compared=told if isinstance(told, Compared) else None,
        data=_data(answers),
        model=(here / "plan_model.js").read_text(encoding="utf-8"),
        script=(here / "plan_page.js").read_text(encoding="utf-8"),
    )


def _data(answers: Sequence[Answer]) -> str:
    """What the scripts read, safe within a script element."""
    plain = [msgspec.to_builtins(answer) for answer in answers]
    for answer in plain:
        for row in answer["inputs"]:
            row |= _limits(row["name"])
    rotation = Input(
        name="model.rotation",
        means=FIELDS["model.rotation"].means,
        value=0,
        low=1,
        high=1,
        unit=FIELDS["model.rotation"].dimension.base,
        source="assumed: never, unless moved",
        given=False,
    )
    body = {
        "answers": plain,
        "duties": model.DUTIES,
        "rotation": msgspec.to_builtins(rotation) | _limits("model.rotation"),
    }
    # No title can end the element; the characters come back as they were.
    return msgspec.json.encode(body).decode().replace("<", "\\u003c")


def _limits(name: str) -> dict[str, float | None]:
    field = FIELDS[name]
    return {"least": field.least, "most": None if field.most == float("inf") else field.most}
