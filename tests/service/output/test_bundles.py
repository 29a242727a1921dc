from dataclasses import replace

from model_core.affect import ACTION_UNITS
from model_core.bundles.manifest import UnitNote
from service.output.bundles import describe_bundle, describe_tasks
from tests.service.fakes import FakePredictor


def test_each_unit_says_how_far_it_can_be_trusted() -> None:
    notes = {name: UnitNote("rendered", 0.75, 0.875, change_r=0.5, change_auroc=0.9375) for name in ACTION_UNITS}
    notes["AU15"] = UnitNote("none", 0.25, 0.5, "rendered")
    manifest = replace(FakePredictor.manifest, unit_notes=notes)
    units = describe_tasks({"action_units": manifest})["action_units"].model_dump(exclude_none=True)["units"]
    assert units["AU12"] == {
        "name": "lip corner puller",
        "threshold": 0.5,
        "validated": "rendered",
        "r": 0.75,
        "auroc": 0.875,
        "change_r": 0.5,
        "change_auroc": 0.9375,
    }
    assert (units["AU15"]["validated"], units["AU15"]["reference"]) == ("none", "rendered")
    of_bundle = describe_bundle(manifest, {}).tasks["action_units"].units
    assert of_bundle is not None
    assert of_bundle["AU15"].validated == "none"


def test_a_bundle_without_notes_says_nothing_about_trust() -> None:
    units = describe_tasks({"action_units": FakePredictor.manifest})["action_units"].model_dump(exclude_none=True)
    assert units["units"]["AU12"] == {"name": "lip corner puller", "threshold": 0.5}
