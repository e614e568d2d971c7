/**
 * The gateway's HTTP interface as the page uses it: JSON in and out, problems as errors, progress and events.
 */

const KEY = 'kirie-key';

/** What a gateway (RFC 9457 problem+json) or the network says when something did not go well. */
export class Problem extends Error {
  /**
   * @param {{status?: number, code?: string, title?: string, detail?: string, field?: string,
   *          request_id?: string}} body
   * @param {number=} retryAfter seconds after which it is worth asking again
   */
  constructor(body, retryAfter) {
    super(body.detail || body.title || body.code || 'problem');
    this.name = 'Problem';
    this.status = body.status ?? 0;
    this.code = body.code ?? 'unknown';
    this.field = body.field;
    this.requestId = body.request_id;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may go well later. */
  get passes() {
    return this.code === 'offline' || this.status === 429 || this.status === 502 || this.status === 503
      || this.status === 504;
  }

  /** The network's failure: no answer at all. */
  static offline() {
    return new Problem({ code: 'offline', detail: 'The gateway cannot be reached.' }, 5);
  }

  /** @param {number} status @param {string} text @param {string | null} retryAfter */
  static of(status, text, retryAfter) {
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      body = { detail: text.slice(0, 200) };
    }
    if (body === null || typeof body !== 'object') body = {};
    const seconds = Number.parseFloat(retryAfter ?? '');
    return new Problem({ ...body, status }, Number.isFinite(seconds) ? Math.max(1, seconds) : undefined);
  }
}

/** One caller of the gateway. The API key, where one is asked for, lives as long as the browser's tab. */
export class Api {
  #key = sessionStorage.getItem(KEY);

  /** @param {string} key */
  setKey(key) {
    this.#key = key;
    sessionStorage.setItem(KEY, key);
  }

  #headers() {
    return this.#key ? { Authorization: `Bearer ${this.#key}` } : {};
  }

  /**
   * @param {string} method @param {string} path
   * @param {{json?: unknown, signal?: AbortSignal, priority?: 'high' | 'low',
   *          headers?: Record<string, string>}} options
   * @returns {Promise<Response>} an answer whose status says success
   */
  async request(method, path, { json, signal, priority, headers = {} } = {}) {
    const all = { ...this.#headers(), ...headers };
    if (json !== undefined) all['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(path, {
        method,
        headers: all,
        body: json === undefined ? undefined : JSON.stringify(json),
        signal,
        priority,
      });
    } catch (error) {
      if (signal?.aborted || error.name === 'AbortError') throw error;
      throw Problem.offline();
    }
    if (!response.ok) throw Problem.of(response.status, await response.text(), response.headers.get('Retry-After'));
    return response;
  }

  /** As `request`, and the answer's JSON. */
  async json(method, path, options) {
    const response = await this.request(method, path, options);
    return response.status === 204 ? null : response.json();
  }

  capabilities() {
    return this.json('GET', '/v1/capabilities');
  }

  /** @param {object} job @param {AbortSignal=} signal */
  segment(job, signal) {
    return this.json('POST', '/v1/segment', { json: job, signal, priority: 'high' });
  }

  /** @param {string} sha @param {string=} model @param {AbortSignal=} signal */
  warm(sha, model, signal) {
    return this.json('PUT', `/v1/images/${sha}/warm`, { json: model ? { model } : {}, signal });
  }

  /** The bytes of a picture that the cluster still has. @param {string} sha @param {AbortSignal=} signal */
  async content(sha, signal) {
    return (await this.request('GET', `/v1/images/${sha}/content`, { signal })).blob();
  }

  /**
   * Uploads a picture. Only XMLHttpRequest tells how much of a body has been sent.
   * @param {Blob} blob @param {(fraction: number) => void} onProgress @param {AbortSignal=} signal
   * @returns {Promise<{sha256: string, width: number, height: number}>}
   */
  upload(blob, onProgress, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const aborted = () => reject(new DOMException('The upload was given up.', 'AbortError'));
      if (signal?.aborted) return aborted();
      signal?.addEventListener('abort', () => request.abort(), { once: true });
      request.open('POST', '/v1/images');
      for (const [name, value] of Object.entries(this.#headers())) request.setRequestHeader(name, value);
      request.setRequestHeader('Content-Type', blob.type || 'application/octet-stream');
      request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
      request.onabort = aborted;
      request.onerror = () => reject(Problem.offline());
      request.onload = () => {
        if (request.status >= 200 && request.status < 300) {
          try {
            resolve(JSON.parse(request.responseText));
          } catch {
            reject(new Problem({ status: request.status, detail: 'The answer is no JSON.' }));
          }
        } else {
          reject(Problem.of(request.status, request.responseText, request.getResponseHeader('Retry-After')));
        }
      };
      request.send(blob);
    });
  }

  /**
   * Server-sent events. `EventSource` can carry no API key, so the stream is read by hand.
   * @param {string} path @param {AbortSignal=} signal
   * @returns {AsyncGenerator<{event: string, data: any}>}
   */
  async *events(path, signal) {
    const response = await this.request('GET', path, { signal, headers: { Accept: 'text/event-stream' } });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        text = (text + value).replaceAll('\r\n', '\n');
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          const event = readEvent(text.slice(0, end));
          text = text.slice(end + 2);
          if (event) yield event;
        }
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      throw Problem.offline();
    } finally {
      reader.cancel().catch(() => {});
    }
  }
}

/** @param {string} block the lines of one event @returns {{event: string, data: any} | null} */
function readEvent(block) {
  let event = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) event = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5).trimStart());
  }
  if (data.length === 0) return null;
  try {
    return { event, data: JSON.parse(data.join('\n')) };
  } catch {
    return null;
  }
}
