/**
 * Who may ask the gateway for masks, and in which order. One request is in flight for the whole page. Clicks are asked
 * one after the other and none is lost; of the pointer's positions only the newest waits, and a click goes before it.
 */

/** An overtaken position is given up after so many milliseconds, so that a slow answer holds up no newer one. */
const PATIENCE = 150;

/**
 * @typedef {{prompt: number, score: number, stability_score: number, object_score?: number, area: number,
 *            bbox: number[], segmentation: {size: [number, number], counts: string}}} Mask
 * @typedef {{id: string, model: string, masks: Mask[], errors?: {prompt: number, error: string}[]}} Answer
 */

export class Segmenter {
  /** The request that is under way. @type {{hover: boolean, controller: AbortController, since: number} | null} */
  #inFlight = null;
  /**
   * The newest position of the pointer.
   * @type {{job: object, draw: (answer: Answer) => void, number: number} | null}
   */
  #hover = null;
  /** @type {{job: object, signal?: AbortSignal, resolve: Function, reject: Function}[]} */
  #clicks = [];
  #number = 0;
  #forgotten = 0;
  #timer = 0;
  /** No position is asked for before this time: the gateway said so. */
  #quietUntil = 0;

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.api = api;
    // The cluster, too, drops a position of this page that still waits there when a newer one comes.
    const bytes = crypto.getRandomValues(new Uint8Array(9));
    this.slot = `page-${Array.from(bytes, (byte) => byte.toString(36).padStart(2, '0')).join('')}`;
  }

  /** Asks for a click's masks. @param {object} job @param {AbortSignal=} signal @returns {Promise<Answer>} */
  ask(job, signal) {
    return new Promise((resolve, reject) => {
      this.#clicks.push({ job, signal, resolve, reject });
      this.forgetHover();
      this.#next();
    });
  }

  /**
   * Asks for the mask under the pointer. `draw` is not called when a newer answer was drawn before, or when the
   * pointer has gone or clicked meanwhile.
   * @param {object} job @param {(answer: Answer) => void} draw
   */
  hover(job, draw) {
    if (performance.now() < this.#quietUntil) return;
    this.#hover = { job, draw, number: ++this.#number };
    this.#next();
  }

  /** The pointer has left, clicked, or means something else now: whatever it asked for is of no use. */
  forgetHover() {
    this.#hover = null;
    this.#forgotten = this.#number;
    if (this.#inFlight?.hover) this.#inFlight.controller.abort();
  }

  #next() {
    if (this.#inFlight) {
      if (this.#inFlight.hover && this.#hover) this.#overtake();
      return;
    }
    const click = this.#clicks.shift();
    if (click) {
      this.#runClick(click);
    } else if (this.#hover) {
      const hover = this.#hover;
      this.#hover = null;
      this.#runHover(hover);
    }
  }

  /** A newer position waits behind one that is under way: the older one gets the rest of its time. */
  #overtake() {
    const flight = this.#inFlight;
    clearTimeout(this.#timer);
    const left = flight.since + PATIENCE - performance.now();
    if (left <= 0) {
      flight.controller.abort();
    } else {
      this.#timer = setTimeout(() => this.#inFlight === flight && this.#hover && flight.controller.abort(), left);
    }
  }

  async #runHover({ job, draw, number }) {
    const flight = { hover: true, controller: new AbortController(), since: performance.now() };
    this.#inFlight = flight;
    try {
      const answer = await this.api.segment({ ...job, slot: this.slot }, flight.controller.signal);
      if (number > this.#forgotten) draw(answer);
    } catch (error) {
      // A position that got no mask is no news; the next one may. Only "come back later" is heeded.
      if (error.name === 'Problem' && error.passes) {
        this.#quietUntil = performance.now() + 1000 * (error.retryAfter ?? 2);
      }
    } finally {
      this.#inFlight = null;
      clearTimeout(this.#timer);
      this.#next();
    }
  }

  async #runClick({ job, signal, resolve, reject }) {
    const flight = { hover: false, controller: new AbortController(), since: performance.now() };
    const abort = () => flight.controller.abort();
    this.#inFlight = flight;
    try {
      if (signal?.aborted) throw new DOMException('The picture was closed.', 'AbortError');
      signal?.addEventListener('abort', abort, { once: true });
      resolve(await this.api.segment(job, flight.controller.signal));
    } catch (error) {
      reject(error);
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#inFlight = null;
      this.#next();
    }
  }
}
