"""The service as replicas on a Ray cluster: `serve run service.cluster:app` (extra `cluster`).

A replica is the whole service with a batcher of its own, configured by the same AFFECT_ variables, which every machine
of the cluster needs. Ray's proxy accepts the connections, balances the requests, and starts and stops replicas by the
number of running requests. AFFECT_HOST, AFFECT_PORT, the limits on connections and AFFECT_DRAIN_S have no effect here,
and `/metrics` tells of the replica that happens to answer.
"""

from ray import serve

from service.app import create_app
from service.loading import load_detector, load_predictors
from service.logs import configure_logs
from service.machine import exempt_loaded_objects, keep_little_freed_memory
from service.settings import load_settings

ONGOING = 16
"""Running requests of a replica to which Ray scales; from about so many on, two cores answer no more a second."""

MOST_ONGOING = 64
"""Running requests that Ray hands to a replica, which itself refuses those that would wait too long."""


@serve.deployment(  # which makes a Deployment of the class
    name="affect",
    max_ongoing_requests=MOST_ONGOING,
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": ONGOING},
    ray_actor_options={"num_cpus": 2},
    health_check_period_s=10,
    health_check_timeout_s=30,
    graceful_shutdown_timeout_s=30,
)
@serve.ingress()
class Replica:
    """One process with the whole service."""

    def __init__(self) -> None:
        """Load what the settings name. Raises as the service's start does, which Ray shows in its log."""
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
        keep_little_freed_memory()
        detector = load_detector(settings)
        predictor, *others = load_predictors(settings, detector)
        self._app = create_app(settings, detector, predictor, replicas=others)
        exempt_loaded_objects()

    def __serve_build_asgi_app__(self) -> object:
        """Return the ASGI app, whose lifespan Ray then starts."""
        return self._app

    async def check_health(self) -> None:
        """Raise as `/readyz` does if the replica cannot answer; Ray then replaces it."""
        await self._app.state.context.readiness.require()


app = Replica.bind()  # type: ignore[attr-defined]
"""The application that `serve run` starts."""
