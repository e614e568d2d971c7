/**
 * A line chart of the last minutes, as SVG: one point a second, gaps where nothing was heard.
 */

import { make } from './appearance.js';
import { number, t } from './language.js';

const SVG = 'http://www.w3.org/2000/svg';
const SECONDS = 300;
const WIDTH = 600;
const HEIGHT = 108;
/** Room for the axis' words at the right. */
const RIGHT = 44;

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The next of 1, 2, 4, 6, 8, 10, 20, 40, … above a value. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 6, 8, 10].find((step) => step * power >= value * 0.9999);
}

/** @param {[number, number][]} points @returns {string} the middle of a path's description */
const path = (points) => points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L');

export class Chart {
  /** @type {{at: number, values: (number | null)[]}[]} */
  #points = [];

  /**
   * @param {string} title a text's key @param {string[]} series texts' keys
   * @param {{unit?: (value: number) => string, least?: number}} options `least` is the smallest full scale
   */
  constructor(title, series, { unit = (value) => number(value, { maximumFractionDigits: 1 }), least = 1 } = {}) {
    Object.assign(this, { title, series, unit, least });
    this.heading = make('h2');
    this.plot = svg('svg', { class: 'plot', role: 'img' });
    this.legend = make('ul', { class: 'legend' });
    this.note = make('small');
    const header = make('header', {}, this.heading, this.note);
    this.element = make('section', { class: 'chart' }, header, this.plot, this.legend);
  }

  /** @param {(number | null | undefined)[]} values one for each series */
  add(values, at = Date.now()) {
    this.#points.push({ at, values: values.map((value) => (Number.isFinite(value) ? value : null)) });
    while (this.#points.length > 0 && this.#points[0].at < at - SECONDS * 1000) this.#points.shift();
    this.draw();
  }

  draw() {
    const now = this.#points.at(-1)?.at ?? Date.now();
    const last = this.#points.at(-1)?.values ?? [];
    const width = Math.max(200, this.plot.clientWidth || WIDTH);
    const all = this.#points.flatMap(({ values }) => values).filter((value) => value !== null);
    const top = roundUp(Math.max(this.least, ...all));
    const x = (at) => (width - RIGHT) * (1 - (now - at) / (SECONDS * 1000));
    const y = (value) => HEIGHT - (HEIGHT - 8) * (value / top);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const height = y(top * share);
      parts.push(svg('line', { class: 'axis', x1: 0, x2: width - RIGHT, y1: height, y2: height }));
      const text = svg('text', { x: width - RIGHT + 6, y: y(top * share) + 4 });
      text.textContent = this.unit(top * share);
      parts.push(text);
    }
    for (const index of this.series.keys()) {
      const runs = this.#runs(index);
      const points = runs.map((run) => run.map(({ at, value }) => [x(at), y(value)]));
      const line = points.map((run) => `M${path(run)}`).join('');
      if (index === 0) {
        const ground = (run) => [[run[0][0], HEIGHT], ...run, [run.at(-1)[0], HEIGHT]];
        parts.push(svg('path', { class: `area s${index}`, d: points.map((run) => `M${path(ground(run))}Z`).join('') }));
      }
      parts.push(svg('path', { class: `series s${index}`, d: line }));
      if (last[index] != null) {
        parts.push(svg('circle', { class: `dot s${index}`, cx: x(now), cy: y(last[index]), r: 2.5 }));
      }
    }
    this.heading.textContent = t(this.title);
    this.note.textContent = t('lastMinutes');
    this.plot.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const words = this.series.map((key, index) => `${t(key)} ${last[index] == null ? '–' : this.unit(last[index])}`);
    this.plot.setAttribute('aria-label', `${t(this.title)}: ${words.join(', ')}`);
    this.plot.replaceChildren(...parts);
    this.legend.replaceChildren(...this.series.map((key, index) => {
      const value = make('b', { textContent: last[index] == null ? '–' : this.unit(last[index]) });
      return make('li', {}, make('i', { class: `s${index}` }), `${t(key)} `, value);
    }));
  }

  /** Stretches without a gap. */
  #runs(index) {
    const runs = [];
    let before = -Infinity;
    for (const { at, values } of this.#points) {
      const value = values[index];
      if (value === null) {
        before = -Infinity;
        continue;
      }
      if (at - before > 5000) runs.push([]);
      runs.at(-1).push({ at, value });
      before = at;
    }
    return runs;
  }
}
