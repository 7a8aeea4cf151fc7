/** Bodies that can be stored and passed on: an object of plain values. */

import { Refusal, wrongField } from "./errors.ts";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

const DEEPEST = 32;
const LARGEST = 1e15;

/** Raises what is wrong with the body, before anything reads it. */
export function parseObject(bytes: Uint8Array): JsonObject {
  let value: Json;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new Refusal(400, "The body must be JSON.", { code: "not_json" });
  }
  if (!isObject(value)) throw new Refusal(400, "The body must be a JSON object.", { code: "not_json" });
  requirePlain(value);
  return value;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The database takes no NUL and no half of a surrogate pair; the workers take no deeper nesting, no larger number. */
function requirePlain(body: JsonObject): void {
  let level: [string, Json][] = Object.entries(body);
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > DEEPEST) throw new Refusal(400, `The body is nested deeper than ${DEEPEST} levels.`);
    for (const [field, value] of level) if (!isPlain(field) || !isPlain(value)) throw notPlain(field);
    level = level.flatMap(([field, value]) => inside(value).map((item): [string, Json] => [field, item]));
  }
}

function inside(value: Json): Json[] {
  if (Array.isArray(value)) return value;
  return isObject(value) ? [...Object.keys(value), ...Object.values(value)] : [];
}

function isPlain(value: Json): boolean {
  if (typeof value === "number") return Math.abs(value) < LARGEST;
  return typeof value !== "string" || (!value.includes("\0") && wellFormed(value));
}

function wellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function notPlain(field: string): Refusal {
  const name = isPlain(field) ? field.slice(0, 64) : "a key";
  return wrongField(name, `${name} holds a character that is not valid text, or a number that is out of range.`);
}
