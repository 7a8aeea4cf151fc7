/** Supabase Lite over our PostgreSQL: `/rest/v1` and `/storage/v1`, with objects as files of a folder. */

import "postgres"; // which Lite looks for by this name
import { App, setExperimental } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";

const env = (name: string): string => Deno.env.get(name) ?? "";
const folder = env("LITE_FILES");

type Stored = { body: Uint8Array; facts: Record<string, unknown> };

/** One file an object. A slash of its name becomes %2F, so that no name leads out of its bucket. */
function place(bucket: string, name: string): string {
  return `${folder}/${bucket}/_${encodeURIComponent(name)}`;
}

function factsOf(size: number, mimetype: string): Record<string, unknown> {
  const common = { cacheControl: "no-cache", httpStatusCode: 200, lastModified: new Date(), eTag: `"${size}"` };
  return { ...common, size, contentLength: size, mimetype };
}

async function stored(bucket: string, name: string): Promise<Stored> {
  const path = place(bucket, name);
  const [body, type] = await Promise.all([Deno.readFile(path), Deno.readTextFile(`${path}.type`)]);
  return { body, facts: factsOf(body.length, type) };
}

async function removed(bucket: string, name: string): Promise<void> {
  const path = place(bucket, name);
  await Promise.allSettled([Deno.remove(path), Deno.remove(`${path}.type`)]);
}

const files = {
  driver: null,
  async getObject(bucket: string, name: string): Promise<unknown> {
    const { body, facts } = await stored(bucket, name);
    return { body, metadata: facts, httpStatusCode: 200 };
  },
  async headObject(bucket: string, name: string): Promise<unknown> {
    return (await stored(bucket, name)).facts;
  },
  async uploadObject(bucket: string, name: string, _version: unknown, body: BodyInit, type: string): Promise<unknown> {
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    await Deno.mkdir(`${folder}/${bucket}`, { recursive: true });
    await Promise.all([
      Deno.writeFile(place(bucket, name), bytes),
      Deno.writeTextFile(`${place(bucket, name)}.type`, type),
    ]);
    return factsOf(bytes.length, type);
  },
  async deleteObject(bucket: string, name: string): Promise<void> {
    await removed(bucket, name);
  },
  async deleteObjects(bucket: string, names: string[]): Promise<void> {
    await Promise.all(names.map((name) => removed(bucket, name)));
  },
};

setExperimental("storage", true);
const options = { max: 8, onnotice: () => {} };
const app = new App(
  {
    connection: createPostgresConnection({ url: env("LITE_DATABASE"), postgresOptions: options }),
    auth: {
      enabled: true,
      jwt_secret: env("JWT_SECRET"),
      publishable_key: env("LITE_PUBLISHABLE_KEY"),
      secret_key: env("LITE_SECRET_KEY"),
    },
    storage: { enabled: true },
  } as unknown as ConstructorParameters<typeof App>[0],
);
Object.assign(app, { _storageAdapter: files });
await app.init();
Deno.serve((request) => app.fetch(request, { peerAddress: null }));
