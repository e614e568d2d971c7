/**
 * A picture's way into the cluster: sent, and encoded; and what is said meanwhile.
 */

import { Problem } from './api.js';
import { number, t } from './language.js';

/** So long (milliseconds) an encode may wait before the page looks whether anybody is there to do it. */
const LOOK_AFTER = 4000;

export class Intake {
  /** @param {import('./api.js').Api} api @param {import('./notices.js').Notices} notices */
  constructor(api, notices) {
    this.api = api;
    this.notices = notices;
  }

  /**
   * @param {Blob} blob @param {Promise<import('./picture.js').Picture>} decoding the same picture as the browser has it
   * @param {AbortSignal} signal @returns {Promise<{sha256: string, width: number, height: number}>}
   */
  async send(blob, decoding, signal) {
    const send = (body) => this.notices.patiently(() => {
      this.notices.show('uploading', t('uploading'), '', { progress: 0 });
      return this.api.upload(body, (fraction) => this.notices.progress(fraction), signal);
    }, signal);
    try {
      return await send(blob);
    } catch (error) {
      // The browser may know formats that the cluster does not; it gets the same pixels as a PNG.
      if (error.code !== 'unsupported-picture') throw error;
      const picture = await decoding.catch(() => { throw error; });
      return send(await picture.toPng());
    }
  }

  /** Has a picture encoded, and tells how far that is. @param {string} sha256 @param {string=} model */
  async encode(sha256, model, signal) {
    await this.notices.patiently(async () => {
      for (;;) {
        const answer = await this.api.warm(sha256, model, signal);
        if (answer.state === 'ready' || !answer.job) return;
        this.#showEncoding();
        if (await this.#follow(answer.job, signal)) return;
      }
    }, signal);
    this.notices.clear();
  }

  /** @returns {Promise<boolean>} whether the job came to its end */
  async #follow(job, signal) {
    let started = false;
    // Nothing tells a page that nobody is there to begin; so it looks.
    const look = setTimeout(async () => {
      const { workers } = await this.api.json('GET', '/v1/workers', { signal }).catch(() => ({ workers: null }));
      if (!started && workers && !workers.some((worker) => worker.role === 'encoder')) {
        this.notices.show('no-worker', t('noWorker'), t('noWorkerDetail'), { progress: null, urgent: true });
      }
    }, LOOK_AFTER);
    try {
      for await (const { event, data } of this.api.events(`/v1/jobs/${job}/events`, signal)) {
        if (event === 'done') return true;
        if (event === 'failed') throw new Problem(data);
        started ||= data.state === 'running';
        this.#showEncoding(data.state === 'running' ? 0 : data.position);
      }
    } finally {
      clearTimeout(look);
      started = true;
    }
    return false;
  }

  #showEncoding(ahead = 0) {
    if (ahead > 0) {
      const detail = ahead === 1 ? t('aheadOne') : t('ahead', { n: number(ahead) });
      this.notices.show('queued', t('queued'), detail, { progress: null });
    } else {
      this.notices.show('encoding', t('encoding'), t('encodingDetail'), { progress: null });
    }
  }
}
