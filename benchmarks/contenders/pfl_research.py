"""pfl-research: its simulated backend with FederatedAveraging, in one process or, under torchrun, in several."""

import os
from importlib.metadata import version

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional as F
from workload import BATCH, CLIENTS, LR, MOMENTUM, Clock, Workload, arguments, report


class Classifier(nn.Module):
    """The workload's model with the two methods that pfl asks for."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.body(images), labels)

    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Weighted]:
        with torch.no_grad():
            return {"loss": Weighted(self.loss(images, labels).item() * len(labels), len(labels))}


class Lap(TrainingProcessCallback):
    """Stops the time after each round."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.clock.lap()
        return False, Metrics()


def main() -> None:
    options = arguments().parse_args()
    clock = Clock(options.warmup)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(max(1, options.threads // processes))
    workload = Workload.read(options.data)

    def dataset(client: int) -> Dataset:
        return Dataset([workload.images[client], workload.labels[client]], user_id=str(client))

    # One object a client for the whole run, so that its batches are sliced once.
    datasets = [dataset(client) for client in range(CLIENTS)]
    federated = FederatedDataset(datasets.__getitem__, MinimizeReuseUserSampler(list(range(CLIENTS))))
    classifier = Classifier(workload.model())
    model = PyTorchModel(
        classifier,
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=MOMENTUM),
        torch.optim.SGD(classifier.parameters(), lr=1.0),
    )
    rounds = options.warmup + options.rounds
    FederatedAveraging().run(
        # Evaluation happens in round 0 whatever is asked for; that is within the warm-up.
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10 * rounds,
            train_cohort_size=CLIENTS,
            val_cohort_size=None,
        ),
        SimulatedBackend(training_data=federated, val_data=federated),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LR, local_batch_size=BATCH),
        NNEvalHyperParams(local_batch_size=None),
        [Lap(clock)],
    )
    if int(os.environ.get("RANK", 0)) == 0:
        report(options.out, workload, clock, list(classifier.parameters()), {"pfl": version("pfl")})


if __name__ == "__main__":
    main()
