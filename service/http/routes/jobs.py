"""GET and DELETE /jobs/{job_id}, and GET /jobs/{job_id}/result."""

from asyncio import to_thread

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from service.errors import NotFound, RangeNotSatisfiable
from service.http.dependencies import Caller, JobsDep, RequestId
from service.http.files import FileAnswer
from service.http.jobs import described
from service.http.negotiation import json_allowed, negotiated, no_parameters
from service.http.openapi import problems, result_types
from service.jobs.job import State
from service.output.schemas import JobStatus

router = APIRouter(dependencies=[Depends(no_parameters)])

_LACKING = (404, 410, 422, 503, 507)
"""Statuses where there is no such job, or its table does not answer."""


@router.get(
    "/jobs/{job_id}",
    dependencies=[Depends(json_allowed)],
    response_model_exclude_none=True,
    responses=problems(406, *_LACKING),
)
async def job_status(job_id: str, jobs: JobsDep, caller: Caller) -> JobStatus:
    """State and progress of a job; it is there for the API key that made it."""
    return described(await to_thread(jobs.store.find, job_id, caller))


@router.get(
    "/jobs/{job_id}/result",
    response_class=Response,
    responses=result_types() | problems(406, 413, 415, 416, 500, 504, *_LACKING),
)
async def job_result(request: Request, job_id: str, jobs: JobsDep, caller: Caller, request_id: RequestId) -> Response:
    """The result of a job that has succeeded, or the problem of one that has failed; before that, 404.

    With `Range`, only these bytes of it.
    """
    job = await to_thread(jobs.store.find, job_id, caller)
    if job.document is not None:
        document = job.document | {"request_id": request_id}
        return JSONResponse(document, job.document["status"], media_type="application/problem+json")
    if job.state is not State.SUCCEEDED:
        raise NotFound(f"the job has no result: it is {job.state}")
    media_type = negotiated(request, [job.media_type])
    # Not in a thread: a cancellation while it is opened would leave the file open.
    file = jobs.store.result(job)
    try:
        return FileAnswer(request, file, media_type, f'"{job.id}.{job.attempt}"')  # a result never changes
    except RangeNotSatisfiable:
        file.close()
        raise


@router.delete("/jobs/{job_id}", status_code=204, responses=problems(*_LACKING))
async def delete_job(job_id: str, jobs: JobsDep, caller: Caller) -> None:
    """Cancel a job that has not ended, which then is `cancelled`; or delete one that has, with its result."""
    await to_thread(jobs.store.remove, job_id, caller)
    jobs.worker.stop(job_id)
