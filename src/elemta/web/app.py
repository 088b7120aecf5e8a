"""What the web process answers: the metrics, and whether the server is well. Only GET and HEAD.

`/metrics` is for Prometheus; `/health/live` says that this process answers, `/health/ready` that
mail can be taken (503 and the reasons where it cannot); `/health` is the same as the latter.
`/live` and `/ready` are other names for them. An error tells nothing of the inside.
"""

from collections.abc import Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from elemta.web.health import Readiness

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def make_app(
    check_readiness: Callable[[], Readiness], render_metrics: Callable[[str], tuple[bytes, str]]
) -> Starlette:
    """Make the application.

    `render_metrics` takes an HTTP `Accept` field and gives the metrics and their content type.
    """

    async def metrics(request: Request) -> Response:
        content, content_type = render_metrics(request.headers.get("accept", ""))
        return Response(content, headers={**HEADERS, "Content-Type": content_type})

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"}, headers=HEADERS)

    async def ready(_request: Request) -> Response:
        readiness = check_readiness()
        status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        content = {
            "status": "ready" if readiness.is_ready else "not ready",
            "reasons": list(readiness.reasons),
        }
        return JSONResponse(content, status, headers=HEADERS)

    routes = [
        Route("/metrics", metrics),
        Route("/health", ready),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/live", live),
        Route("/ready", ready),
    ]
    handlers = {HTTPException: _refuse, Exception: _fail}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    content = {"error": HTTPStatus(status).phrase.lower()}
    return JSONResponse(content, status, headers={**HEADERS, **headers})


async def _fail(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal server error"}, 500, headers=HEADERS)
