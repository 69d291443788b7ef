"""Bad scenarios are refused by the name of what is wrong, with what would be right."""

from __future__ import annotations

import re

import plan_scenarios
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.plan.fields import FIELDS
from tidegate.plan.scenario import ScenarioError, read
from tidegate.plan.units import YEAR
from tidegate.plan.written import to_toml

SMALL = plan_scenarios.SMALL


def _refused(text: str) -> tuple[str, str]:
    with pytest.raises(ScenarioError) as caught:
        read(text, "mine.toml")
    details = caught.value.details
    assert caught.value.message.startswith("mine.toml: ")
    assert str(details["field"]) in caught.value.message
    assert str(details["valid"]) in caught.value.message
    return str(details["field"]), str(details["valid"])


def _with(line: str, text: str = SMALL) -> str:
    key = line.split(" =")[0]
    return re.sub(rf"^{key} = .*$", line.replace("\\", r"\\"), text, count=1, flags=re.M)


def test_a_negative_value_is_refused() -> None:
    line = 'headroom = { value = -5, unit = "%", range = [-5, 1], source = "assumed: test" }'
    field, valid = _refused(_with(line))
    assert field == "link.headroom.value"
    assert valid == "a number from 0 to 1000 share"


def test_a_missing_value_is_named_with_an_example() -> None:
    field, valid = _refused(re.sub(r"^parameters = .*\n", "", SMALL, flags=re.M))
    assert field == "model.parameters"
    assert 'unit = "parameters"' in valid


def test_a_misspelt_value_is_refused_and_the_nearest_name_offered() -> None:
    field, valid = _refused(SMALL.replace("lossy_compression", "lossy_compresion"))
    assert field == "attacker.lossy_compresion"
    assert valid.startswith("lossy_compression,")


def test_an_unknown_section_is_refused() -> None:
    field, valid = _refused(SMALL + "\n[defence]\nx = 1\n")
    assert field == "[defence]"
    assert "verification" in valid


def test_a_unit_of_another_kind_is_refused() -> None:
    line = 'lifetime = { value = 1, unit = "GB", range = [1, 1], source = "assumed: test" }'
    field, valid = _refused(_with(line))
    assert field == "model.lifetime.unit"
    assert "days" in valid


def test_a_bare_number_is_refused() -> None:
    field, valid = _refused(_with("bits_per_token = 2"))
    assert field == "link.bits_per_token"
    assert "source" in valid


@pytest.mark.parametrize("source", ["", "somewhere", "assumed:", "measured: "])
def test_a_source_that_names_nothing_is_refused(source: str) -> None:
    line = f'headroom = {{ value = 5, unit = "%", range = [5, 5], source = "{source}" }}'
    assert _refused(_with(line))[0] == "link.headroom.source"


@pytest.mark.parametrize("missing", ["value", "unit", "range", "source"])
def test_a_value_without_one_of_its_parts_is_refused(missing: str) -> None:
    parts = {"value": "5", "unit": '"%"', "range": "[5, 5]", "source": '"assumed: test"'}
    del parts[missing]
    inside = ", ".join(f"{key} = {value}" for key, value in parts.items())
    assert _refused(_with(f"headroom = {{ {inside} }}"))[0] == f"link.headroom.{missing}"


def test_a_part_too_many_is_refused() -> None:
    line = 'headroom = { value = 5, unit = "%", range = [5, 5], source = "assumed: t", why = 1 }'
    field, valid = _refused(_with(line))
    assert field == "link.headroom.why"
    assert "source" in valid


@pytest.mark.parametrize("ends", ["[6, 7]", "[7, 4]", "[nan, 7]", "[1, inf]"])
def test_a_range_that_does_not_hold_its_value_is_refused(ends: str) -> None:
    line = f'headroom = {{ value = 5, unit = "%", range = {ends}, source = "assumed: test" }}'
    assert _refused(_with(line))[0] == "link.headroom.range"


def test_a_range_that_leaves_what_can_be_is_refused() -> None:
    line = 'share_of_traffic = { value = 50, unit = "%", range = [5, 150], source = "assumed: t" }'
    field, valid = _refused(_with(line))
    assert field == "attacker.share_of_traffic.range"
    assert "to 1 share" in valid


def test_text_for_a_number_is_refused() -> None:
    line = 'headroom = { value = "5", unit = "%", range = [5, 5], source = "assumed: test" }'
    assert _refused(_with(line))[0] == "link.headroom.value"


def test_two_caps_contradict_each_other() -> None:
    cap = 'cap = { value = 1, unit = "GB/day", range = [1, 1], source = "assumed: test" }\n'
    field, valid = _refused(SMALL + cap)
    assert field == "link.cap and link.headroom"
    assert "one above honest use" in valid


def test_no_cap_at_all_is_refused() -> None:
    assert "neither" in str(_refused_message(re.sub(r"^headroom.*\n", "", SMALL, flags=re.M)))


def _refused_message(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(text, "mine.toml")
    return caught.value.message


def test_a_cap_below_honest_use_is_refused_with_what_honest_use_takes() -> None:
    cap = 'cap = { value = 1, unit = "MB/day", range = [1, 1], source = "assumed: test" }'
    field, valid = _refused(re.sub(r"^headroom.*$", cap, SMALL, flags=re.M))
    assert field == "link.cap"
    assert "2e+07 bits/day" in valid


def test_a_residual_without_audits_contradicts_itself() -> None:
    line = 'residual = { value = 1, unit = "%", range = [1, 1], source = "cited: x" }'
    assert _refused(f"{SMALL}\n[verification]\n{line}\n")[0] == "verification.residual"


def test_a_link_that_costs_more_than_a_token_can_say_is_refused() -> None:
    line = (
        'bits_per_token = { value = 3, unit = "bytes/token", range = [3, 3], source = "cited: x" }'
    )
    assert _refused(_with(line))[0] == "link.bits_per_token"


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"mine\.toml is not TOML"):
        read("title = ", "mine.toml")


def test_a_scenario_needs_a_title() -> None:
    assert _refused(SMALL.replace('title = "small"', ""))[0] == "title"


def test_units_become_base_units() -> None:
    line = 'lifetime = { value = 18, unit = "months", range = [12, 24], source = "assumed: test" }'
    scenario = read(_with(line), "mine.toml")
    assert scenario.at("model.lifetime") == pytest.approx(1.5 * YEAR)
    assert scenario.values["model.lifetime"].high == pytest.approx(2 * YEAR)


def test_growth_in_per_cent_is_a_factor() -> None:
    growth = 'growth = { value = 50, unit = "%/year", range = [0, 100], source = "assumed: test" }'
    scenario = read(SMALL.replace("[link]", f"{growth}\n\n[link]"), "mine.toml")
    assert scenario.at("traffic.growth") == pytest.approx(1.5)
    assert scenario.values["traffic.growth"].low == pytest.approx(1.0)


def test_a_default_says_that_it_is_one() -> None:
    quantity = plan_scenarios.small().values["attacker.return"]
    assert not quantity.given
    assert quantity.source.startswith("assumed: ")


@pytest.mark.parametrize("name", sorted(plan_scenarios.packaged()))
def test_packaged_scenarios_are_read_back_as_they_were_written(name: str) -> None:
    scenario = plan_scenarios.packaged()[name]
    again = read(to_toml(scenario), name)
    assert again.title == scenario.title
    for key, quantity in scenario.values.items():
        assert again.values[key] == quantity


@given(st.text(max_size=40))
def test_any_title_survives_being_written(title: str) -> None:
    scenario = plan_scenarios.small()
    told = type(scenario)(title, title, scenario.values)
    assert read(to_toml(told), "x").title == title


@given(st.dictionaries(st.sampled_from(["model", "link", "x"]), st.integers() | st.text()))
def test_nonsense_is_refused_and_never_crashes(sections: dict[str, object]) -> None:
    text = "".join(f"[{key}]\nparameters = {value!r}\n" for key, value in sections.items())
    with pytest.raises(ScenarioError):
        read('title = "x"\n' + text, "mine.toml")


def test_every_field_says_what_it_means_and_what_is_valid() -> None:
    assert [name for name, field in FIELDS.items() if not field.means or not field.valid()] == []
