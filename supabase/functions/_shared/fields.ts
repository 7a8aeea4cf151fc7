/** One field of a request in either spelling, with a sentence that names it where its value is of no use. */

import { wrongField } from "./errors.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** `job_type` is read as `jobType`, too. Null counts as absent, as browsers send it. */
export class Fields {
  constructor(private readonly body: JsonObject) {}

  text(name: string, most: number): string | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (typeof value !== "string") throw wrongField(name, `${name} must be text.`);
    if ([...value].length > most) {
      throw wrongField(name, `${name} must have at most ${most.toLocaleString("en")} characters.`);
    }
    return value;
  }

  uuid(name: string): string | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (typeof value !== "string" || !UUID.test(value)) {
      throw wrongField(name, `${name} must be a UUID, like 1b4e28ba-2fa1-41d2-883f-0016d3cca427.`);
    }
    return value.toLowerCase();
  }

  object(name: string): JsonObject | undefined {
    const value = this.value(name);
    if (value !== undefined && !isObject(value)) throw wrongField(name, `${name} must be an object.`);
    return value;
  }

  flag(name: string): boolean | undefined {
    const value = this.value(name);
    if (value !== undefined && typeof value !== "boolean") throw wrongField(name, `${name} must be true or false.`);
    return value;
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    const chosen = choices.find((choice) => choice === value);
    if (chosen === undefined) throw wrongField(name, `${name} must be one of: ${choices.join(", ")}.`);
    return chosen;
  }

  value(name: string): Json | undefined {
    return this.body[name] ?? this.body[camel(name)] ?? undefined;
  }
}

export function isUuid(value: unknown): value is string {
  return typeof value === "string" && UUID.test(value);
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
