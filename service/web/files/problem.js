/** Problems: why an answer could not be given, as the service or the browser tells it. */

/** An answer that is no success. */
export class Problem extends Error {
  /**
   * @param {string} title
   * @param {string} detail a sentence
   * @param {{status?: number, requestId?: string, retryAfterS?: number | null}} facts
   *   `retryAfterS`: seconds after which the service asks to be asked again; null where it does not.
   */
  constructor(title, detail, { status = 0, requestId = "", retryAfterS = null } = {}) {
    super(detail);
    this.title = title;
    this.detail = detail;
    this.status = status;
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
  }

  /**
   * Return the problem that an answer holds (RFC 9457), or one by its status where it holds none.
   * @param {Response} response
   */
  static async of(response) {
    const type = response.headers.get("Content-Type") ?? "";
    const told = type.startsWith("application/problem+json") ? await response.json() : {};
    const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    return new Problem(
      told.title ?? `Status ${response.status}`,
      told.detail ?? "The answer does not say why.",
      {
        status: response.status,
        requestId: told.request_id ?? response.headers.get("X-Request-ID") ?? "",
        retryAfterS: Number.isFinite(after) ? after : null,
      },
    );
  }

  /**
   * Return the problem that ends a stream or a live reply, whose document is an object of it.
   * @param {{title: string, detail: string, status: number, request_id?: string}} told
   */
  static told(told) {
    return new Problem(told.title, told.detail, { status: told.status, requestId: told.request_id ?? "" });
  }
}

/**
 * Return true for the error of a request that the person has stopped.
 * @param {unknown} error
 */
export function isStopped(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
