/** What a client may ask for. Everything else of its body is left behind: user, priority, consent, bucket, tier. */

import { wrongField } from "../_shared/errors.ts";
import type { Fields } from "../_shared/fields.ts";
import type { JsonObject } from "../_shared/json.ts";

const PROMPT = 4000;
const NEGATIVE = 2000;
const KEY = 200;

/** The newest clients send these beside `config`; the workers read them inside it. */
const CONFIG = [
  "num_images",
  "seed",
  "size",
  "width",
  "height",
  "resolution",
  "num_inference_steps",
  "guidance_scale",
  "pipeline",
  "reference_image_url",
  "reference_strength",
  "reference_type",
  "first_frame",
  "last_frame",
  "denoise_strength",
] as const;

/** The request of `create_job`. Absent stays absent; `content_type` is the newest clients' word for the rating. */
export function wish(fields: Fields, headers: Headers): JsonObject {
  const type = fields.text("job_type", 64);
  if (!type) throw wrongField("job_type", "job_type is missing: name a job type, for example image_fast.");
  const nsfw = fields.choice("content_type", ["sfw", "nsfw", "image", "video"]) === "nsfw";
  return compact({
    job_type: type,
    prompt: fields.text("prompt", PROMPT) ?? "",
    negative_prompt: fields.text("negative_prompt", NEGATIVE),
    config: { ...beside(fields), ...fields.object("config") },
    metadata: fields.object("metadata") ?? {},
    draft: fields.flag("draft"),
    rating: fields.choice("rating", ["sfw", "adult"]) ?? (nsfw ? "adult" : undefined),
    image_id: fields.uuid("image_id"),
    video_id: fields.uuid("video_id"),
    character_id: fields.uuid("character_id"),
    compel_enabled: fields.flag("compel_enabled"),
    compel_weights: fields.text("compel_weights", NEGATIVE),
    idempotency_key: keyOf(fields, headers),
  });
}

function keyOf(fields: Fields, headers: Headers): string | undefined {
  const key = headers.get("idempotency-key") ?? fields.text("idempotency_key", KEY);
  if (key && key.length > KEY) {
    throw wrongField("idempotency_key", `Idempotency-Key must have at most ${KEY} characters.`);
  }
  return key || undefined;
}

function beside(fields: Fields): JsonObject {
  return compact(Object.fromEntries(CONFIG.map((name) => [name, fields.value(name)])));
}

function compact(record: Record<string, JsonObject[string] | undefined>): JsonObject {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as JsonObject;
}
