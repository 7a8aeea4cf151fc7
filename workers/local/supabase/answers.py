"""The error answers of the deployment, each in the form of the service that gives it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """Ends a request with this status and JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def storage_error(status: int, error: str, message: str) -> ApiError:
    """Storage says 400 for whatever is wrong, and the true status in the body, as text."""
    return ApiError(400, {"statusCode": str(status), "error": error, "message": message})


def function_error(message: str, status: int = 400) -> ApiError:
    return ApiError(status, {"success": False, "error": message})


def rest_error(code: str, message: str, status: int = 400, details: str | None = None) -> ApiError:
    return ApiError(status, {"code": code, "details": details, "hint": None, "message": message})


def unauthorized(message: str) -> ApiError:
    """What the gateway in front of all services says to a key that it does not take."""
    return ApiError(401, {"statusCode": "401", "error": "Unauthorized", "message": message})


async def answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status)


async def json_object(request: Request) -> dict[str, Any]:
    """The body of a request to an edge function."""
    try:
        body = await request.json()
    except ValueError:
        raise function_error("Unexpected end of JSON input") from None
    if not isinstance(body, dict):
        raise function_error("Invalid request body")
    return body
