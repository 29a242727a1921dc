from typing import Any

import pytest

from model_core.affect import ACTION_UNITS, Reference
from model_core.bundles.manifest import UnitNote
from training.measuring.trust import unit_notes


def report(known: str, **units: dict[str, float]) -> dict[str, Any]:
    return {"faces": {"dataset": "x", known: 9}, "action_units": units}


def rendered(**aurocs: float) -> dict[str, Any]:
    """A report on rendered faces, on which every unit has r 0.25."""
    values = {name: {"pearson": 0.25, "auroc": value} for name, value in aurocs.items()}
    return report("with_known_action_units", **values)


def read(**correlations: float) -> dict[str, Any]:
    """A report on faces that a teacher read, on which every unit has AUROC 0.875."""
    values = {name: {"pearson": value, "auroc": 0.875} for name, value in correlations.items()}
    return report("with_derived_targets", **values)


def test_rendered_faces_come_first_then_the_teacher() -> None:
    notes = unit_notes([read(AU1=0.75, AU2=0.75, AU4=0.5, AU6=0.5), rendered(AU1=0.8, AU2=0.79, AU4=0.79)])
    assert notes is not None
    assert list(notes) == list(ACTION_UNITS)
    assert notes["AU1"] == UnitNote("rendered", 0.25, 0.8)
    assert notes["AU2"] == UnitNote("teacher", 0.75, 0.875)
    assert notes["AU4"] == UnitNote("none", 0.25, 0.79)
    assert notes["AU6"] == UnitNote("none", 0.5, 0.875)
    assert notes["AU7"] == UnitNote("none")


def test_moved_faces_against_unmoved_ones_decide() -> None:
    values = rendered(AU1=0.9) | {"rendered": {"units": {"AU1": {"auroc": 0.7}}}}
    notes = unit_notes([values])
    assert notes is not None
    assert notes["AU1"] == UnitNote("none", 0.25, 0.7)


def test_figures_of_changes_are_of_rendered_faces_whoever_bears_a_unit_out() -> None:
    units = {"AU1": {"auroc": 0.7, "auroc_change": 0.95, "pearson_change": 0.625}, "AU2": {"auroc": 0.9}}
    notes = unit_notes([read(AU1=0.75), rendered(AU1=0.7, AU2=0.9) | {"rendered": {"units": units}}])
    assert notes is not None
    assert notes["AU1"] == UnitNote("teacher", 0.75, 0.875, change_r=0.625, change_auroc=0.95)
    assert notes["AU2"] == UnitNote("rendered", 0.25, 0.9)


def test_an_undefined_figure_bears_nothing_out() -> None:
    notes = unit_notes(
        [report("with_known_action_units", AU1={"positives": 0}), report("with_derived_targets", AU1={})]
    )
    assert notes is not None
    assert notes["AU1"] == UnitNote("none")


def test_the_origin_is_noted_where_units_differ() -> None:
    references: dict[str, Reference] = {"AU1": "rendered", "AU2": "derived"}
    notes = unit_notes([read(AU1=0.9)], references)
    assert notes is not None
    assert (notes["AU1"].reference, notes["AU2"].reference, notes["AU4"].reference) == ("rendered", "derived", None)


@pytest.mark.parametrize("reports", [[], [{"task": "action_units", "f1": 0.5}]])
def test_without_a_report_by_unit_there_are_no_notes(reports: list[dict[str, Any]]) -> None:
    assert unit_notes(reports) is None
