"""Routes of long work: asked for, looked at, and the rows that an import did not take."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from serve.api import MAX_LIMIT, JobAnswer, JobIn, RejectsAnswer
from serve.edge import read_json
from serve.errors import Problem
from serve.jobs import IMPORTS, Job
from serve.routes.wire import allowed_by, answers, body, named_scenario, parse, send
from serve.service import Service, in_pool

BODIES: Final[Sequence[type[BaseModel]]] = [JobIn]
"""What the routes read, for OpenAPI."""

_SHOWN: Final = ("file", "line", "field", "value", "rule", "detail", "advice")


class _RejectsParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, pattern=r"^[0-9]{1,12}$", description="next_cursor of the page before.")


def add(app: FastAPI, service: Service) -> None:
    """Let `app` answer them from `service`."""

    @app.post(
        "/v1/jobs",
        status_code=202,
        responses=answers(JobAnswer, 408, 413, 415, 422, 503, good=202),
        openapi_extra=body(JobIn),
    )
    async def begin(request: Request) -> Response:
        """Have exports in var/imports imported, a model trained, or retrained and put in place, or all lists written.
        What waits is not begun twice."""
        asked = parse(JobIn, await read_json(request))
        for index, name in enumerate(asked.mappings or ()):
            if not (service.jobs.path.parent / IMPORTS / name).is_file():
                detail = f"there is no mapping {name} in the folder {IMPORTS} of the server's var: put it there first"
                raise Problem(422, "unknown-mapping", detail, errors=[(f"/mappings/{index}", detail)])
        if asked.kind == "recommend":
            allowed_by(service.recommender, asked.filter, "/filter")
            named_scenario(service.recommender, asked.scenario, "/scenario")
        given = asked.model_dump(by_alias=True, exclude_none=True, exclude={"kind"})
        if asked.kind == "retrain" and service.follower is not None:
            given["plan"] = (await in_pool(service.disk_pool, service.follower.registry.plan)).tag
        job = await in_pool(service.disk_pool, lambda: service.jobs.add(asked.kind, given))
        return accepted(job)

    @app.get("/v1/jobs/{job_id}", responses=answers(JobAnswer, 404, 422, 503))
    async def get(job_id: str) -> Response:
        """What has become of a job."""
        return send(told(await _find(service, job_id)))

    @app.get("/v1/jobs/{job_id}/rejects", responses=answers(RejectsAnswer, 404, 422, 503))
    async def rejects(job_id: str, asked: Annotated[_RejectsParameters, Query()]) -> Response:
        """The rows that an import did not take: file, line and why. The import of a file again replaces them."""
        job = await _find(service, job_id)
        if job.kind != "import":
            raise Problem(404, "no-rejects", f"the job is one of kind {job.kind}: only imports reject rows")
        var = service.jobs.path.parent
        rows = await in_pool(service.disk_pool, lambda: _rejected(var, job))
        start = int(asked.cursor or 0)
        end = start + asked.limit
        return send(
            {"total": len(rows), "rejects": rows[start:end], "next_cursor": str(end) if end < len(rows) else None}
        )


def accepted(job: Job) -> Response:
    """202, and where to look."""
    response = send(told(job), 202)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return response


async def _find(service: Service, id: str) -> Job:
    job = await in_pool(service.disk_pool, lambda: service.jobs.find(id))
    if job is None:
        raise Problem(404, "unknown-job", "there is no such job: the answer that began one has its Location")
    return job


def told(job: Job) -> dict[str, Any]:
    """A job as JSON has it."""
    return {
        "job_id": job.id,
        "kind": job.kind,
        "state": job.state,
        "tries": job.tries,
        "created_at": instant(job.created),
        "started_at": instant(job.started),
        "ended_at": instant(job.ended),
        "output": job.said,
    }


def instant(at: datetime | None) -> str | None:
    """An instant as answers write it."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _rejected(var: Path, job: Job) -> list[dict[str, Any]]:
    """What quarantine has of the job's mappings, in the order of files and lines."""
    import pyarrow.parquet as pq

    mappings = {str(var.resolve() / IMPORTS / name) for name in job.arguments["mappings"]}
    rows = [
        row
        for part in sorted((var / "quarantine").glob("*/*.parquet"))
        for row in pq.read_table(part, columns=[*_SHOWN, "mapping", "rejected_at"]).to_pylist()
        if row["mapping"] in mappings and (job.started is None or row["rejected_at"] >= job.started)
    ]
    rows.sort(key=lambda row: (row["file"], row["line"]))
    return [{name: row[name] for name in _SHOWN} for row in rows]
