"""A trained network as a teacher: another network learns its answers to the very images of a batch.

Source: knowledge distillation (Hinton et al., 2015), with teacher and learner on the same augmented view (Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent", CVPR 2022). A teacher whose answers are averaged
over a face and its mirror image so teaches a network that reads each face once to give both the same answer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model_core.affect import AffectLogits, AffectTarget, Task
from model_core.inference.encoder import answers_to
from model_core.inference.networks import ConcatenatedNetwork, SharedNetwork, build_tensor_runtime
from model_core.inference.runtimes import Runtime, RuntimeOptions
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.batches import Batch, Lesson
from training.data.prepared import PreparedFaces
from training.runs.checkpoint import CheckpointError
from training.runs.config import TeacherConfig
from training.runs.trained import load_evaluable, require_match


@dataclass(frozen=True)
class Teacher:
    """A trained network that gives its answers to a batch's faces of certain sets."""

    runtime: Runtime
    """Maps images to the columns of `tasks`, followed by the backbone's vector."""
    tasks: dict[Task, slice]
    """The columns of each task's logits."""
    input: InputSpec
    """Whether mirror images are read, too."""
    taught: tuple[int, ...]
    """Positions of the sets, among those of the run, whose faces it teaches."""

    def teach(self, batches: Iterable[Batch], faces: PreparedFaces) -> Iterator[Batch]:
        """Return the batches with the teacher's answers as the targets of the faces it teaches."""
        for batch in batches:
            places = np.flatnonzero(np.isin(faces.origins[batch.rows], self.taught))
            images = batch.images[torch.from_numpy(places)].numpy()
            outputs = torch.from_numpy(answers_to(images, self.input, self.runtime)).float()
            target = _with_answers(batch.target, torch.from_numpy(places), self._answers(outputs))
            width = max(columns.stop for columns in self.tasks.values())
            yield replace(batch, target=target, lesson=Lesson(places, outputs[:, width:]))

    def _answers(self, outputs: Tensor) -> AffectLogits:
        return AffectLogits(**{task: outputs[:, columns] for task, columns in self.tasks.items()})


def _with_answers(target: AffectTarget, places: Tensor, answers: AffectLogits) -> AffectTarget:
    """Return targets in which those at `places` are a network's answers, all of which count."""
    values = {name: value.clone() for name, value in vars(target).items()}
    probabilities = {
        "valence_arousal": answers.valence_arousal,
        "expression": None if answers.expression is None else answers.expression.softmax(dim=1),
        "action_units": None if answers.action_units is None else answers.action_units.sigmoid(),
    }
    for task, value in probabilities.items():
        if value is not None:
            values[task][places] = value
            values[f"{task}_mask"][places] = 1
    return AffectTarget(**values)


def load_teacher(
    config: TeacherConfig, faces: PreparedFaces, spec: NetworkSpec, images: InputSpec, taught: tuple[int, ...]
) -> Teacher:
    """Return a configuration's teacher of a network with this spec, which sees these images.

    Raises BundleError, CheckpointError, DatasetError, ModuleNotFoundError.
    """
    trained = load_evaluable(config.network)
    require_match(trained, faces)
    if trained.spec.backbone != spec.backbone or trained.spec.recurrent is not None:
        raise CheckpointError(f"{config.network} cannot teach: it is no framewise network with a {spec.backbone}")
    if missing := [task for task in spec.tasks if task not in trained.spec.tasks]:
        raise CheckpointError(f"{config.network} cannot teach {', '.join(missing)}, which it does not tell")
    if _pictures(trained.input) != _pictures(images):
        raise CheckpointError(f"{config.network} cannot teach: it sees other pictures, {trained.input}")
    tasks, start = {}, 0
    for task, width in trained.spec.widths.items():
        tasks[task] = slice(start, start + width)
        start += width
    network = folded(trained.network)
    heads = ConcatenatedNetwork(AffectNetwork(torch.nn.Identity(), dict(network.heads.items())), tuple(tasks))
    shared = SharedNetwork(network.backbone, [heads], keep_vector=True).eval()
    options = RuntimeOptions(config.engine, config.precision)
    runtime = build_tensor_runtime(shared, trained.input.size, "cpu", options)
    return Teacher(runtime, tasks, trained.input, taught)


def _pictures(spec: InputSpec) -> InputSpec:
    """Return what pictures a network sees, whichever way it reads them."""
    return replace(spec, with_mirror_image=False, oriented=False)
