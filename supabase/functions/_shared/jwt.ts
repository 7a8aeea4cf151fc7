/** Users' tokens: JWTs signed with the project's secret (HS256), or with one of its published keys. */

import { ask } from "./ask.ts";
import { type Bytes, fromBase64, hmacMatches, utf8 } from "./bytes.ts";
import { Refusal, Unreachable } from "./errors.ts";
import { keyHeaders, projectUrl, serviceKey, setting } from "./settings.ts";

export interface Claims {
  sub?: unknown;
  role?: unknown;
  aud?: unknown;
  exp?: unknown;
  nbf?: unknown;
}

interface Key extends JsonWebKey {
  kid?: string;
}

interface Parts {
  header: { alg?: unknown; kid?: unknown };
  claims: Claims;
  signed: Bytes;
  signature: Bytes;
}

const ALGORITHMS = new Map<unknown, { kty: string; imports: Algorithm; verifies: Algorithm }>([
  ["ES256", {
    kty: "EC",
    imports: { name: "ECDSA", namedCurve: "P-256" } as EcKeyImportParams,
    verifies: { name: "ECDSA", hash: "SHA-256" } as EcdsaParams,
  }],
  ["RS256", {
    kty: "RSA",
    imports: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } as RsaHashedImportParams,
    verifies: { name: "RSASSA-PKCS1-v1_5" },
  }],
  ["EdDSA", { kty: "OKP", imports: { name: "Ed25519" }, verifies: { name: "Ed25519" } }],
]);
const LONGEST = 8192;
const SKEW = 60;
const PATIENCE_MS = 5000;
const KEEP_MS = 600_000;
const ASK_AGAIN_MS = 30_000;

let published: { keys: Promise<Key[]>; at: number } = { keys: Promise.resolve([]), at: -Infinity };

/** The claims of a token that this project signed and that has not expired. Raises a 401, or `Unreachable`. */
export async function verified(token: string): Promise<Claims> {
  const parts = split(token);
  if (parts === undefined || !(await isSigned(parts, token))) throw unknownToken();
  const { exp, nbf } = parts.claims;
  const now = Date.now() / 1000;
  if (typeof exp !== "number" || exp <= now) {
    throw new Refusal(401, "Your session has expired. Please sign in again.", { code: "expired" });
  }
  if (nbf !== undefined && !(typeof nbf === "number" && nbf <= now + SKEW)) throw unknownToken();
  return parts.claims;
}

export function unknownToken(): Refusal {
  return new Refusal(401, "Please sign in: send your session's token as Authorization: Bearer.", { code: "token" });
}

function split(token: string): Parts | undefined {
  const [head, body, tail, ...more] = token.split(".");
  if (token.length > LONGEST || !head || !body || !tail || more.length > 0) return undefined;
  const [header, claims, signature] = [read(head), read(body), fromBase64(tail)];
  if (header === undefined || claims === undefined || signature === undefined) return undefined;
  return { header, claims, signed: utf8(`${head}.${body}`), signature };
}

function read(part: string): Record<string, unknown> | undefined {
  const bytes = fromBase64(part);
  try {
    const value = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The key decides which algorithm is right, never the token alone: a public key is no secret for HS256. */
async function isSigned({ header, signed, signature }: Parts, token: string): Promise<boolean> {
  if (header.alg === "HS256") {
    const secret = setting("JWT_SECRET", "SUPABASE_JWT_SECRET");
    return secret === undefined ? await authKnows(token) : await hmacMatches(utf8(secret), signature, signed);
  }
  const algorithm = ALGORITHMS.get(header.alg);
  if (algorithm === undefined) return false;
  for (const key of await keysNamed(header.kid)) {
    if (key.kty !== algorithm.kty) continue;
    const imported = await imports(key, algorithm.imports);
    if (imported && (await crypto.subtle.verify(algorithm.verifies, imported, signature, signed))) return true;
  }
  return false;
}

/** Without the secret at hand, the service that signed is asked. */
async function authKnows(token: string): Promise<boolean> {
  const headers = { ...keyHeaders(serviceKey()), Authorization: `Bearer ${token}` };
  let status: number;
  try {
    const answer = await ask(`${projectUrl()}/auth/v1/user`, { headers }, PATIENCE_MS);
    await answer.body?.cancel();
    status = answer.status;
  } catch {
    throw new Unreachable("the project's sign-in service did not answer");
  }
  if (status >= 500 || status === 429) throw new Unreachable(`the project's sign-in service answered ${status}`);
  return status === 200;
}

async function imports(key: Key, algorithm: Algorithm): Promise<CryptoKey | undefined> {
  const { kty, crv, x, y, n, e } = key;
  const bare = Object.fromEntries(Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined));
  try {
    return await crypto.subtle.importKey("jwk", bare, algorithm, false, ["verify"]);
  } catch {
    return undefined;
  }
}

/** The keys that the environment holds, else those that the project publishes. */
async function keysNamed(kid: unknown): Promise<Key[]> {
  const named = (keys: Key[]): Key[] => keys.filter((key) => kid === undefined || key.kid === kid);
  const given = named(keysOf(JSON.parse(setting("SUPABASE_JWKS") ?? "[]")));
  if (given.length > 0) return given;
  const known = named(await recent(KEEP_MS));
  return known.length > 0 ? known : named(await recent(ASK_AGAIN_MS));
}

/** The published keys, read at most so long ago. Tokens that name unknown keys must not make us ask all day. */
async function recent(age: number): Promise<Key[]> {
  if (Date.now() - published.at > age) published = { keys: fetched(), at: Date.now() };
  try {
    return await published.keys;
  } catch (error) {
    published.at = -Infinity;
    throw error;
  }
}

async function fetched(): Promise<Key[]> {
  try {
    const answer = await ask(`${projectUrl()}/auth/v1/.well-known/jwks.json`, {}, PATIENCE_MS);
    return keysOf(await answer.json());
  } catch {
    throw new Unreachable("the project's published keys could not be read");
  }
}

function keysOf(set: Key[] | { keys?: Key[] }): Key[] {
  return Array.isArray(set) ? set : set.keys ?? [];
}
