/** The environment: what the platform gives to every function, and the deployment's own secrets. */

/** The first of these variables that holds something. */
export function setting(...names: string[]): string | undefined {
  for (const name of names) {
    const value = Deno.env.get(name)?.trim();
    if (value) return value;
  }
  return undefined;
}

/** As `setting`, for what a function cannot do without. The error names the variable and goes to the log only. */
export function required(...names: [string, ...string[]]): string {
  const value = setting(...names);
  if (value === undefined) throw new Error(`${names[0]} is not set: see docs/deploy-supabase.md`);
  return value;
}

export function projectUrl(): string {
  return required("SUPABASE_URL").replace(/\/+$/, "");
}

/** The key that may do everything: a new one (`sb_secret_…`) where the project has any, else the legacy JWT. */
export function serviceKey(): string {
  return newKey() ?? required("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_KEY");
}

/** Only a legacy key is a JWT; a new one fails as bearer token. */
export function keyHeaders(key: string): Record<string, string> {
  return key.startsWith("sb_") ? { apikey: key } : { apikey: key, Authorization: `Bearer ${key}` };
}

/** The platform gives new keys as one JSON object, name -> key. What is none is not repeated: it holds a secret. */
function newKey(): string | undefined {
  const named = setting("SUPABASE_SECRET_KEYS");
  if (named === undefined) return undefined;
  try {
    const keys: Record<string, string> = JSON.parse(named);
    return keys["default"] ?? Object.values(keys)[0];
  } catch {
    throw new Error("SUPABASE_SECRET_KEYS is not a JSON object");
  }
}
