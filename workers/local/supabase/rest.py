"""`/rest/v1`: the tables as PostgREST serves them, as far as workers use it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.local.supabase.answers import rest_error, unauthorized
from workers.local.supabase.database import Database, Row
from workers.local.supabase.keys import Keys

TABLES = ("jobs", "images", "videos", "workspace_assets")
OPERATORS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "LIKE"}
RESERVED = frozenset({"select", "order", "limit", "offset", "columns", "on_conflict"})
SINGLE = "application/vnd.pgrst.object+json"

Filter = tuple[str, Any]


class RestApi:
    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    def routes(self) -> list[Route]:
        path = "/rest/v1/{table}"
        return [
            Route(path, self.read, methods=["GET"]),
            Route(path, self.change, methods=["PATCH"]),
            Route(path, self.remove, methods=["DELETE"]),
        ]

    async def read(self, request: Request) -> Response:
        table, filters = self._admit(request)
        rows = self._database.select(table, filters=filters, tail=self._tail(table, request))
        chosen = self._chosen(table, rows, request.query_params.get("select", "*"))
        if request.headers.get("accept") != SINGLE:
            return JSONResponse(chosen, headers={"Content-Range": f"0-{len(chosen) - 1}/*" if chosen else "*/*"})
        if len(chosen) != 1:
            details = f"The result contains {len(chosen)} rows"
            message = "JSON object requested, multiple (or no) rows returned"
            raise rest_error("PGRST116", message, 406, details)
        return JSONResponse(chosen[0])

    async def change(self, request: Request) -> Response:
        """The triggers of the database hold here too."""
        table, filters = self._admit(request)
        values = await request.json()
        for column in values:
            self._known(table, column)
        ids = [row["id"] for row in self._database.select(table, filters=filters)]
        try:
            self._database.update(table, None, values, filters=filters)
        except sqlite3.IntegrityError as error:
            raise rest_error("P0001", str(error)) from None
        if "return=representation" not in request.headers.get("prefer", ""):
            return Response(status_code=204)
        return JSONResponse([row for id_ in ids for row in self._database.select(table, {"id": id_})])

    async def remove(self, request: Request) -> Response:
        """The service refuses to empty a table: there must be a filter."""
        table, filters = self._admit(request)
        if not filters:
            raise rest_error("21000", "DELETE requires a WHERE clause", 400)
        for row in self._database.select(table, filters=filters):
            self._database.delete(table, {"id": row["id"]})
        return Response(status_code=204)

    def _admit(self, request: Request) -> tuple[str, list[Filter]]:
        """The table and which of its rows are meant. A user sees only what is the user's own."""
        if not request.headers.get("apikey"):
            raise unauthorized("No API key found in request")
        caller, table = self._keys.caller(request.headers), request.path_params["table"]
        if table not in TABLES:
            raise rest_error("PGRST205", f"Could not find the table 'public.{table}' in the schema cache", 404)
        own = [] if caller.user_id is None else [("user_id = ?", caller.user_id)]
        given = [(name, text) for name, text in request.query_params.multi_items() if name not in RESERVED]
        return table, own + [self._filter(table, name, text) for name, text in given]

    def _filter(self, table: str, column: str, text: str) -> Filter:
        self._known(table, column)
        negated = text.startswith("not.")
        operator, _, value = text.removeprefix("not.").partition(".")
        term, argument = _term(column, operator, value)
        return (f"NOT ({term})" if negated else term), argument

    def _tail(self, table: str, request: Request) -> str:
        words = []
        if order := request.query_params.get("order"):
            words.append("ORDER BY " + ", ".join(self._order(table, part) for part in order.split(",")))
        if limit := request.query_params.get("limit"):
            words.append(f"LIMIT {int(limit)} OFFSET {int(request.query_params.get('offset') or 0)}")
        return " ".join(words)

    def _order(self, table: str, text: str) -> str:
        column, *modifiers = text.split(".")
        self._known(table, column)
        return f"{column} DESC" if "desc" in modifiers else f"{column} ASC"

    def _chosen(self, table: str, rows: Sequence[Row], select: str) -> list[Row]:
        names = [name.strip() for name in select.split(",")]
        if "*" in names:
            return list(rows)
        for name in names:
            self._known(table, name)
        return [{name: row[name] for name in names} for row in rows]

    def _known(self, table: str, column: str) -> None:
        if column not in self._database.columns[table]:
            raise rest_error("42703", f"column {table}.{column} does not exist")


def _term(column: str, operator: str, value: str) -> Filter:
    """A condition with one mark for its value, or with none."""
    if operator in OPERATORS:
        return f"{column} {OPERATORS[operator]} ?", value.replace("*", "%") if operator == "like" else value
    if operator == "is" and value == "null":
        return f"{column} IS NULL", None
    if operator == "in":
        items = [item.strip('"') for item in value.strip("()").split(",")]
        return f"instr(?, ',' || {column} || ',') > 0", f",{','.join(items)},"
    raise rest_error("PGRST100", f"failed to parse filter ({operator}.{value})")
