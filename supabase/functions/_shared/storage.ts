/** Storage, with the service key. */

import { ask } from "./ask.ts";
import { Unreachable } from "./errors.ts";
import { keyHeaders, projectUrl, serviceKey } from "./settings.ts";

export interface Place {
  bucket: string;
  path: string;
}

const PATIENCE_MS = 20_000;

/** The bytes of an object, which its bucket bounds. Raises `Unreachable`. */
export async function read({ bucket, path }: Place): Promise<ArrayBuffer> {
  const url = `${projectUrl()}/storage/v1/object/${bucket}/${path.split("/").map(encodeURIComponent).join("/")}`;
  try {
    const response = await ask(url, { headers: keyHeaders(serviceKey()) }, PATIENCE_MS);
    if (response.ok) return await response.arrayBuffer();
    await response.body?.cancel();
  } catch {
    // said below
  }
  throw new Unreachable("storage did not give an object");
}

/** Remove objects that belong to nobody. Failing is logged only: what stays is in its user's own folder. */
export async function remove(places: Place[]): Promise<void> {
  const buckets = Map.groupBy(places, (place) => place.bucket);
  await Promise.all([...buckets].map(([bucket, inside]) => removeFrom(bucket, inside.map((place) => place.path))));
}

async function removeFrom(bucket: string, prefixes: string[]): Promise<void> {
  const headers = { ...keyHeaders(serviceKey()), "Content-Type": "application/json" };
  try {
    const url = `${projectUrl()}/storage/v1/object/${encodeURIComponent(bucket)}`;
    const response = await ask(url, { method: "DELETE", headers, body: JSON.stringify({ prefixes }) });
    await response.body?.cancel();
    if (response.ok) return;
  } catch {
    // said below
  }
  console.error(JSON.stringify({ event: "objects left", bucket, objects: prefixes.length }));
}
