from collections import Counter
from pathlib import Path

import pytest

from training.runs.config import FaceRegionConfig, LocalConfig, TrainConfig, load_config
from training.runs.config_file import ConfigError
from training.train import load_run_config
from training.video.config import SequenceConfig

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
SMALL = '[data]\nprepared = "somewhere"\n[network]\nbackbone = "ddamfn"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(SMALL)
    return path


def test_every_shipped_configuration_loads_as_the_kind_it_states() -> None:
    assert Counter(type(load_run_config(path)) for path in CONFIGS.glob("*.toml")) == {
        TrainConfig: 8,
        LocalConfig: 8,
        FaceRegionConfig: 2,
    }
    for recipe in ("paper", "best"):
        assert {type(load_run_config(path)) for path in (CONFIGS / recipe).glob("*.toml")} == {SequenceConfig}


def test_the_sixth_and_the_seventh_stage_see_faces_changed_alike() -> None:
    sixth, seventh = (load_run_config(Path(name)) for name in ("ferplus_6_ddamfn_112.toml", "ferplus_7_local_112.toml"))
    assert isinstance(seventh, LocalConfig)
    assert seventh.network.start_from == Path("runs/ferplus-6")
    assert seventh.augmentation == sixth.augmentation


@pytest.mark.parametrize("stated", ["", 'kind = "video"\n', "kind = 3\n"])
def test_a_configuration_states_its_kind(tmp_path: Path, stated: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(stated + SMALL)
    known = 'kind = one of "network", "local", "eye-region", "mouth-region", "sequence"'
    with pytest.raises(ConfigError, match=rf"config\.toml: kind: the file states at its top what it trains, {known}$"):
        load_run_config(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "balance = 1.0\ntasks = ['action_units']",
            "balance weighs targets of expressions, which this set does not teach",
        ),
        ("balance = 0.5\ntaught = true", "balance weighs targets of expressions, which this set does not teach"),
        ("resting_factor = 0.4\ntasks = ['expression']", "neutral_at_rest and resting_factor change targets of units"),
        (
            "neutral_at_rest = true\ntasks = ['expression']",
            "neutral_at_rest and resting_factor change targets of units",
        ),
        ("balance = 1.1", "less than or equal to 1"),
        ("taught = true", "which a run of local features does not have"),
    ],
)
def test_options_of_a_set_that_would_have_no_effect_are_refused(tmp_path: Path, options: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"kind = 'local'\n[[data.sets]]\nprepared = 'a'\n{options}\n[network]\nstart_from = 'b'\n[views]\n")
    with pytest.raises(ConfigError, match=message):
        load_run_config(path)


def test_defaults(file: Path) -> None:
    config = load_config(file)
    assert config.data.prepared == Path("somewhere")
    assert config.network.tasks == ("valence_arousal", "expression", "action_units")
    assert config.input.size == 112
    assert config.loss.attention == 0.1


@pytest.mark.parametrize(
    ("override", "table", "key", "value"),
    [
        ("optimizer.rate=0.5", "optimizer", "rate", 0.5),
        ("optimizer.epochs = 3", "optimizer", "epochs", 3),
        ("run.compile=true", "run", "compile", True),
        ("input.mean=[0.1, 0.2, 0.3]", "input", "mean", (0.1, 0.2, 0.3)),
        ("data.prepared=other/place", "data", "prepared", Path("other/place")),
        ('data.prepared="quoted place"', "data", "prepared", Path("quoted place")),
        ("network.backbone=mfn-pooled", "network", "backbone", "mfn-pooled"),
        ("loss.action_units=0.0", "loss", "action_units", 0),
        ("augmentation.flip=false", "augmentation", "flip", False),
    ],
)
def test_overrides(file: Path, override: str, table: str, key: str, value: object) -> None:
    assert getattr(getattr(load_config(file, [override]), table), key) == value


def test_how_a_machine_is_kept_busy_does_not_decide_the_weights(file: Path) -> None:
    busy = load_config(file, ["run.save_every=7", "run.log_every=3", "run.compile=true", "run.threads=2"])
    assert busy.fingerprint() == load_config(file).fingerprint()
    assert busy.fingerprint()["run"] == {"seed": 0, "precision": "float32"}


@pytest.mark.parametrize("change", ["optimizer.accumulate=2", "run.precision=bfloat16", "run.seed=1", "data.limit=9"])
def test_what_decides_the_weights_makes_another_run(file: Path, change: str) -> None:
    assert load_config(file, [change]).fingerprint() != load_config(file).fingerprint()


def test_the_last_override_wins(file: Path) -> None:
    assert load_config(file, ["run.seed=1", "run.seed=2"]).run.seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=1", "optimizer.learning_rate: Extra inputs are not permitted"),
        ("loss.gaze=1", "loss.gaze: "),
        ("augmentation.hue=1", "augmentation.hue: Extra inputs are not permitted"),
        ("gaze.x=1", "gaze: Extra inputs are not permitted"),
        (
            "network.backbone=resnet",
            "network.backbone: Input should be 'ddamfn', 'ddamfn-local', 'ddamfn-local-eyes', 'ddamfn-local-regions', ",
        ),
        ("network.tasks=['gaze']", "network.tasks.0: "),
        ("network.tasks=['eyes_closed']", "network.tasks.0: "),  # it is taught by training.eyes
        ("input.colour=bgr", "input.colour: "),
        ("optimizer.epochs=0", "optimizer.epochs: "),
        ("optimizer.accumulate=0", "optimizer.accumulate: "),
        ("run.precision=int8", "run.precision: Input should be 'float32', 'bfloat16' or 'float16'"),
        ("optimizer.epochs=many", "optimizer.epochs: "),
        ("run.seed", "--set takes table.key=value, got 'run.seed'"),
        ("seed=1", "--set takes table.key=value, got 'seed=1'"),
        ("data.prepared.deeper=1", "data.prepared.deeper"),
    ],
)
def test_a_mistake_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.seed: .*; run\.save_every: "):
        load_config(file, ["run.seed=x", "run.save_every=0"])


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml does not exist, and what ships is .*paper/ddamfn_lstm_va\.toml"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[data\n")
    with pytest.raises(ConfigError, match=r"bad\.toml is not TOML"):
        load_config(tmp_path / "bad.toml")
