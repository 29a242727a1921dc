from dataclasses import replace

import numpy as np

from benchmarks.systems import report, scores
from training.video.result import CalibratedResult, ProtocolResult


def run(task: str, **measures: float) -> ProtocolResult:
    return ProtocolResult("s", "generated", {}, {task: measures})


RESULTS = {
    ("paper", "ddamfn_fc_va"): [run("valence_arousal", p_va=0.5), run("valence_arousal", p_va=0.6)],
    ("paper", "ddamfn_lstm_va"): [run("valence_arousal", p_va=0.7), run("valence_arousal", p_va=0.6)],
    ("best", "ddamfn_lstm_va"): [run("valence_arousal", p_va=0.75), run("valence_arousal", p_va=0.75)],
    ("best", "ddamfn_fc_au"): [
        replace(
            run("action_units", p_au=0.4, p_au_tuned=0.5),
            calibrated=CalibratedResult({"action_units": {"p_au": 0.3, "p_au_tuned": 0.625}}),
        )
    ],
}


def test_a_systems_measure_by_seed() -> None:
    np.testing.assert_allclose(scores(RESULTS["paper", "ddamfn_lstm_va"], "ddamfn_lstm_va"), [0.7, 0.6])
    np.testing.assert_allclose(scores(RESULTS["best", "ddamfn_fc_au"], "ddamfn_fc_au", "_tuned"), [0.5])


def test_systems_and_their_differences() -> None:
    lines = report(RESULTS).splitlines()
    assert "| paper/ddamfn_fc_va | p_va | 0.550 | 0.500 to 0.600 | nan | nan to nan |" in lines
    assert "| best/ddamfn_fc_au | p_au | 0.400 | 0.400 to 0.400 | 0.625 | 0.625 to 0.625 |" in lines
    assert "| paper: ddamfn_lstm_va over ddamfn_fc_va | 0.100 | 0.000 to 0.200 |" in lines
    assert "| ddamfn_lstm_va: best/ over paper/ | 0.100 | 0.050 to 0.150 |" in lines
    assert "| best/ddamfn_fc_au: tuned thresholds over 0.5 | 0.100 | 0.100 to 0.100 |" in lines
    assert len([line for line in lines if line.startswith("|")]) == 2 * 2 + 4 + 3
