/** The ways a request can end early. */

/** What a program that sent the request may act on, beside the sentence for its user. */
export interface Details {
  code?: string;
  field?: string;
  retryAfter?: number;
}

/** The request is not served: an HTTP status and a sentence for whoever sent it. */
export class Refusal extends Error {
  constructor(readonly status: number, message: string, readonly details: Details = {}) {
    super(message);
  }
}

/** A service of ours did not answer, or not as agreed. The reason is for the log. */
export class Unreachable extends Error {}

export function wrongField(field: string, message: string): Refusal {
  return new Refusal(400, message, { code: "invalid", field });
}
