/**
 * One picture from its opening on: uploads it, has it encoded, and turns clicks and boxes into masks.
 */

import { Problem } from './api.js';
import { say } from './appearance.js';
import { Intake } from './intake.js';
import { bytes, number, t } from './language.js';
import { maskOf } from './objects.js';
import { Picture, Undecodable } from './picture.js';
import { jobFor } from './prompts.js';

/** Says `open` when a picture is there, `state` when what can be done changed, `hovered` when a preview was drawn. */
export class Session extends EventTarget {
  /** @type {Picture | null} */
  picture = null;
  sha256 = '';
  /** The picture's embedding is there: pointing is answered at once. */
  ready = false;
  /** @type {string | undefined} */
  model;
  capabilities = null;
  /** Objects of a link whose picture is gone; they come back with the file. */
  awaited = null;
  #life = new AbortController();
  /** The file, for a cluster that has lost the picture. @type {Blob | null} */
  #file = null;
  /** Clicks one after another: each builds upon the answer of the one before. */
  #line = Promise.resolve();
  /** What the pointer asked for last, and what of that is shown. */
  #asked = '';
  #shown = '';

  constructor({ api, segmenter, objects, stage, notices }) {
    super();
    Object.assign(this, { api, segmenter, objects, stage, notices });
    this.intake = new Intake(api, notices);
  }

  /** @param {Blob} blob @param {string} name */
  async open(blob, name) {
    const life = this.#begin();
    this.#file = blob;
    const limit = this.capabilities?.limits?.image_bytes;
    try {
      if (limit && blob.size > limit) {
        throw new Error(t('tooLarge', { size: bytes(blob.size), limit: bytes(limit) }));
      }
      this.notices.show('opening', t('opening'), '', { progress: null });
      // Decoding here and sending there go on side by side.
      const shown = this.#show(Picture.decode(blob, name), life.signal);
      shown.catch(() => {});
      const uploaded = await this.intake.send(blob, shown, life.signal);
      await shown;
      this.#check(uploaded);
      this.sha256 = uploaded.sha256;
      const link = this.awaited?.sha256 === this.sha256 ? this.awaited : null;
      this.awaited = null;
      await this.#warm(life.signal);
      if (link) await this.restore(link.objects);
    } catch (error) {
      this.#failed(error, life.signal, () => this.open(blob, name));
    }
  }

  /**
   * Opens a picture that the cluster has, with the objects of a link.
   * @param {{sha256: string, objects: object[]}} link
   */
  async openLink(link) {
    const life = this.#begin();
    try {
      this.notices.show('opening', t('opening'), '', { progress: null });
      const blob = await this.notices.patiently(() => this.api.content(link.sha256, life.signal), life.signal);
      this.#file = blob;
      const name = `${link.sha256.slice(0, 8)}.${blob.type.split('/')[1] || 'png'}`;
      await this.#show(Picture.decode(blob, name), life.signal);
      this.sha256 = link.sha256;
      await this.#warm(life.signal);
      await this.restore(link.objects);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) {
        this.awaited = link;
        const choose = [t('choose'), () => document.querySelector('#file').click()];
        const actions = [choose, [t('dismiss'), () => this.notices.clear()]];
        this.notices.show('gone', t('gone'), t('goneDetail'), { actions, urgent: true });
        return;
      }
      this.#failed(error, life.signal, () => this.openLink(link));
    }
  }

  /** Another model: the picture is encoded for it, too. */
  async chooseModel(model) {
    this.model = model;
    this.ready = false;
    this.leave();
    if (!this.sha256) return;
    try {
      await this.#warm(this.#life.signal);
    } catch (error) {
      this.#failed(error, this.#life.signal, () => this.chooseModel(model));
    }
  }

  #begin() {
    this.#life.abort(new DOMException('Another picture was opened.', 'AbortError'));
    this.#life = new AbortController();
    this.#wait([]);
    this.leave();
    this.picture?.close();
    this.picture = null;
    this.stage.picture = null;
    this.sha256 = '';
    this.ready = false;
    this.#line = Promise.resolve();
    this.objects.clear();
    this.notices.clear();
    this.#state();
    return this.#life;
  }

  async #show(decoding, signal) {
    const picture = await decoding;
    if (signal.aborted) {
      picture.close();
      throw signal.reason;
    }
    this.picture = picture;
    this.stage.picture = picture;
    this.stage.view.setImage(picture.width, picture.height);
    this.stage.invalidate('picture', 'masks', 'live');
    this.dispatchEvent(new Event('open'));
    return picture;
  }

  /** The cluster has lost the picture: pictures stay there for a while only. */
  async #sendAgain(signal) {
    this.ready = false;
    this.#state();
    await this.intake.send(this.#file, Promise.resolve(this.picture), signal);
    await this.#warm(signal);
  }

  /** Masks are laid upon the picture as the browser shows it: both must have the same size. */
  #check({ width, height }) {
    if (width === this.picture.width && height === this.picture.height) return;
    throw new Error(`${width} × ${height} ≠ ${this.picture.width} × ${this.picture.height}`);
  }

  /** Has the picture encoded; from then on pointing is answered at once. */
  async #warm(signal) {
    await this.intake.encode(this.sha256, this.model, signal);
    this.ready = true;
    this.#state();
    say(t('ready'));
  }

  /**
   * The pointer is here: shows the mask that a click would give. @param {number} since the time of the pointer's move
   */
  hover(x, y, label, since) {
    const active = this.objects.active;
    // A click is on its way: what it would give stays shown until it is there.
    if (this.stage.pending.length > 0) return;
    if (!this.ready || (label === 0 && !active)) return this.leave();
    const job = jobFor(this.sha256, active, { type: 'point', x, y, label }, { model: this.model, closer: false });
    const key = JSON.stringify(job);
    if (key === this.#asked) return;
    this.#asked = key;
    this.segmenter.hover(job, (answer) => {
      if (!answer.masks?.[0]) return;
      this.#shown = key;
      this.stage.showPreview({ mask: answer.masks[0], label, refines: Boolean(active) });
      this.dispatchEvent(new CustomEvent('hovered', { detail: { x, y, since } }));
    });
  }

  /** The pointer has gone. */
  leave() {
    this.#asked = '';
    this.segmenter.forgetHover();
    if (this.stage.pending.length > 0) return;
    this.#shown = '';
    if (this.stage.preview) this.stage.showPreview(null);
  }

  /** @param {import('./objects.js').Step} step */
  take(step) {
    if (!this.picture) return Promise.resolve();
    if (step.type === 'point' && step.label === 0 && !this.objects.active && this.stage.pending.length === 0) {
      say(t('firstAdd'), true);
      return Promise.resolve();
    }
    const life = this.#life;
    const looked = JSON.stringify(jobFor(this.sha256, this.objects.active, step, { model: this.model }));
    if (looked !== this.#shown) this.leave();
    this.#asked = '';
    this.#wait([...this.stage.pending, step]);
    this.#line = this.#line.then(() => this.#take(step, life.signal)).catch((error) => {
      this.#failed(error, life.signal);
    }).finally(() => {
      this.#wait(this.stage.pending.filter((one) => one !== step));
      if (this.stage.pending.length === 0) this.leave();
    });
    return this.#line;
  }

  async #take(step, signal) {
    if (signal.aborted) return;
    // Until the picture is there a click waits with it.
    if (!this.sha256) await new Promise((resolve, reject) => {
      const look = () => {
        if (this.sha256) resolve();
        else if (signal.aborted) reject(signal.reason);
        else requestAnimationFrame(look);
      };
      look();
    });
    const active = this.objects.active;
    const answer = await this.#ask(active, step, signal);
    if (signal.aborted) return;
    if (!answer.masks?.length) throw new Error(answer.errors?.[0]?.error ?? t('failed'));
    const fields = { steps: [...(active?.steps ?? []), { ...step, reading: 0 }], answer, reading: 0 };
    if (active && this.objects.find(active.id)) this.objects.update(active.id, fields, 'refine');
    else this.objects.add({ name: t('objectName', { n: this.objects.nextNumber }), ...fields });
    this.sayMask(this.objects.active);
  }

  async #ask(object, step, signal) {
    const options = { model: this.model, refine: true };
    const job = jobFor(this.sha256, object, step, options);
    try {
      return await this.notices.patiently(() => this.segmenter.ask(job, signal), signal);
    } catch (error) {
      if (error.code === 'unknown-image') {
        await this.#sendAgain(signal);
      } else if (!job.prompts[0].mask || !(error instanceof Problem) || error.status < 400 || error.status >= 500) {
        throw error;
      }
      // The earlier answer's time may be over, too; its points alone say nearly the same.
      const again = jobFor(this.sha256, object, step, { ...options, prior: false });
      return this.notices.patiently(() => this.segmenter.ask(again, signal), signal);
    }
  }

  /** @param {number} reading which of the masks of its last answer stands for the object */
  chooseReading(reading) {
    const active = this.objects.active;
    if (!active || !active.answer.masks[reading] || active.reading === reading) return;
    const steps = [...active.steps.slice(0, -1), { ...active.steps.at(-1), reading }];
    this.objects.update(active.id, { reading, steps }, 'reading');
    this.sayMask(this.objects.active);
  }

  /** Has the active object answered on the part of the picture around it, at full resolution. */
  closer() {
    const active = this.objects.active;
    return active ? this.take({ type: 'closer' }) : Promise.resolve();
  }

  /** Words for what is to be found: each mask becomes an object. Several, with commas between, are a vocabulary. */
  async find(text) {
    const labels = [...new Set(text.split(/[,、，]/).map((one) => one.trim()).filter(Boolean))];
    if (labels.length > 1) return this.#name(text, labels);
    const step = { type: 'text', text };
    const job = jobFor(this.sha256, undefined, step, { model: this.model, refine: true });
    await this.#several(
      () => this.segmenter.ask(job, this.#life.signal),
      (index) => ({ name: text, steps: [{ ...step, reading: index }] }),
      () => say(t('nothingFound', { text }), true),
    );
  }

  async #name(text, labels) {
    const ask = () => this.#askEverything(this.#life.signal, { labels });
    // A link has each done again by its own word alone.
    const readings = new Map();
    const reading = ({ label }) => readings.set(label, (readings.get(label) ?? -1) + 1).get(label);
    await this.#several(ask, (_, mask) => ({
      name: mask.label,
      steps: [{ type: 'text', text: mask.label, reading: reading(mask) }],
    }), () => say(t('nothingFound', { text }), true));
  }

  async everything() {
    const next = this.objects.nextNumber;
    await this.#several(() => this.#askEverything(this.#life.signal), (index) => ({
      name: t('objectName', { n: next + index }),
      steps: [{ type: 'everything', reading: index }],
    }));
  }

  #askEverything(signal, everything = {}) {
    const job = { image: { sha256: this.sha256 }, everything, output: 'rle', ...(this.model && { model: this.model }) };
    return this.api.json('POST', '/v1/everything', { json: job, signal });
  }

  async #several(ask, parts, none = () => {}) {
    const { signal } = this.#life;
    try {
      this.notices.show('working', t('working'), '', { progress: null });
      const answer = await this.notices.patiently(ask, signal);
      this.notices.clear();
      if (!answer.masks?.length) return none();
      this.objects.addAll(answer.masks.map((mask, index) => ({ ...parts(index, mask), answer, reading: index })));
    } catch (error) {
      this.#failed(error, signal);
    }
  }

  /** Does again what a link says was done. @param {{name, colour, hidden, steps}[]} list */
  async restore(list) {
    const { signal } = this.#life;
    let lost = 0;
    let whole = null;
    for (const [index, { name, colour, hidden, steps }] of list.entries()) {
      const words = t('restoring', { n: index + 1, all: list.length });
      this.notices.show('restoring', words, '', { progress: index / list.length });
      let object;
      try {
        for (const step of steps) {
          let answer;
          if (step.type === 'everything') {
            whole ??= await this.#askEverything(signal);
            answer = whole;
          } else {
            answer = await this.#ask(object, step, signal);
          }
          const reading = answer.masks[step.reading] ? step.reading : 0;
          object = { steps: [...(object?.steps ?? []), { ...step, reading }], answer, reading };
          if (!answer.masks[reading]) throw new Error('no mask');
        }
        if (object) this.objects.add({ name, colour, hidden, ...object }, false);
      } catch (error) {
        if (signal.aborted) return;
        lost += 1;
      }
    }
    this.notices.clear();
    if (lost > 0) say(t('fewer', { n: lost }), true);
  }

  /** Tells a screen reader what was cut out. */
  sayMask(object) {
    const mask = object && maskOf(object);
    if (!mask) return;
    const percent = (100 * mask.area) / (this.picture.width * this.picture.height);
    say(t('saidMask', {
      name: object.name,
      percent: number(percent, { maximumFractionDigits: percent < 10 ? 1 : 0 }),
      score: Math.round(100 * mask.score),
    }));
  }

  #failed(error, signal, again) {
    if (signal.aborted || error.name === 'AbortError') return;
    const shown = error instanceof Undecodable ? new Error(t('notShown')) : error;
    const actions = [];
    if (again) actions.push([t('tryAgain'), again]);
    if (!this.ready) actions.push([t('openOther'), () => document.querySelector('#file').click()]);
    this.notices.failed(shown, actions);
  }

  /** @param {import('./objects.js').Step[]} steps that are asked for and not answered */
  #wait(steps) {
    this.stage.pending = steps;
    this.stage.invalidate('live');
    if (steps.length > 0) this.stage.element.dataset.pending = String(steps.length);
    else delete this.stage.element.dataset.pending;
    this.#state();
  }

  #state() {
    this.dispatchEvent(new Event('state'));
  }
}

