/** Text, base64 and hexadecimal to bytes and back. */

export type Bytes = Uint8Array<ArrayBuffer>;

export function utf8(text: string): Bytes {
  return new TextEncoder().encode(text);
}

/** Either alphabet of base64, padded or not. Undefined for what is none. */
export function fromBase64(text: string): Bytes | undefined {
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    return undefined;
  }
}

export function fromHex(text: string): Bytes | undefined {
  if (!/^([0-9a-f]{2})+$/i.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export async function sha256Hex(bytes: BufferSource): Promise<string> {
  return hex(await crypto.subtle.digest("SHA-256", bytes));
}

function hex(bytes: ArrayBuffer): string {
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function concat(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** HMAC-SHA256, compared in constant time by the platform. */
export async function hmacMatches(key: Bytes, signature: Bytes | undefined, signed: BufferSource): Promise<boolean> {
  return await crypto.subtle.verify("HMAC", await hmacKey(key), signature ?? new Uint8Array(), signed);
}

export async function hmacHex(key: Bytes, signed: BufferSource): Promise<string> {
  return hex(await crypto.subtle.sign("HMAC", await hmacKey(key), signed));
}

async function hmacKey(key: Bytes): Promise<CryptoKey> {
  return await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
}

/** Their digests are compared, so the time it takes says nothing about where they differ. */
export async function sameSecret(given: string, expected: string): Promise<boolean> {
  const [one, other] = await Promise.all([sha256Hex(utf8(given)), sha256Hex(utf8(expected))]);
  return one === other;
}
