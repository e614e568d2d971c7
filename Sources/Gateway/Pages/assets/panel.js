/**
 * The list of objects at the side, with what can be done to each, and the readings of the active one.
 */

import { iconButton, make, say } from './appearance.js';
import { language, number, t } from './language.js';
import { maskOf } from './objects.js';
import { outlineOf } from './stage.js';

const percent = (share) => number(100 * share, { maximumFractionDigits: 0 });

export class Panel {
  /**
   * The rows that are there.
   * @type {Map<number, {object: object, active: boolean, language: string, row: HTMLElement}>}
   */
  #rows = new Map();

  /**
   * @param {HTMLElement} element @param {import('./session.js').Session} session
   * @param {import('./objects.js').Objects} objects
   */
  constructor(element, session, objects) {
    this.element = element;
    this.session = session;
    this.objects = objects;
    this.list = element.querySelector('#objects');
    this.readings = element.querySelector('#readings');
    objects.addEventListener('change', () => this.draw());
    // On a phone the objects are a sheet that is mostly closed; the readings are then asked for upon the picture.
    const narrow = matchMedia('(max-width: 760px)');
    const place = () => {
      if (narrow.matches) document.querySelector('#desk').append(this.readings);
      else element.querySelector('#offers').after(this.readings);
    };
    narrow.addEventListener('change', place);
    place();
  }

  draw() {
    const { list, active } = this.objects;
    this.element.classList.toggle('empty', list.length === 0);
    // Rows of objects that are as they were stay, and the focus with them; a row that is made anew gets it back.
    const focused = document.activeElement?.closest('#objects li')?.dataset.id;
    const role = document.activeElement?.dataset.role;
    const rows = new Map();
    for (const object of list) {
      const known = this.#rows.get(object.id);
      const same = known?.object === object && known.active === (object === active) && known.language === language.code;
      const row = same ? known.row : this.#row(object, object === active);
      rows.set(object.id, { object, active: object === active, language: language.code, row });
    }
    const wanted = [...rows.values()].map(({ row }) => row);
    const kept = new Set(wanted);
    for (const row of [...this.list.children]) if (!kept.has(row)) row.remove();
    for (const [index, row] of wanted.entries()) {
      if (this.list.children[index] !== row) this.list.insertBefore(row, this.list.children[index] ?? null);
    }
    this.#rows = rows;
    if (focused && !document.activeElement?.closest('#objects li')) {
      const row = rows.get(Number(focused))?.row ?? this.list.lastElementChild;
      (row?.querySelector(`[data-role="${role}"]`) ?? row?.querySelector('.pick'))?.focus();
    }
    this.#drawReadings(active);
  }

  #row(object, active) {
    const { id, name, colour, hidden } = object;
    const mask = maskOf(object);
    const pick = make('button', {
      type: 'button',
      class: 'pick',
      'aria-pressed': String(active),
      'aria-label': t('select', { name }),
      dataset: { role: 'pick' },
    }, thumbnail(mask, this.session.picture, colour));
    pick.addEventListener('click', () => this.select(active ? null : id));

    const field = make('input', {
      type: 'text', value: name, maxLength: 80, 'aria-label': t('rename'), dataset: { role: 'name' },
    });
    field.addEventListener('change', () => {
      const text = field.value.trim();
      if (text && text !== name) this.objects.update(id, { name: text }, 'rename');
      else field.value = name;
    });
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') field.blur();
      if (event.key === 'Escape') field.value = name;
    });
    const words = `${number(mask.area)} px · ${percent(mask.score)} %`;
    const figures = make('span', { class: 'figures', textContent: words });

    const ofColour = t('colour', { name });
    const swatch = make('input', {
      type: 'color', value: colour, title: ofColour, 'aria-label': ofColour, dataset: { role: 'colour' },
    });
    swatch.addEventListener('change', () => this.objects.update(id, { colour: swatch.value }, 'recolour'));
    const eye = iconButton(t(hidden ? 'show' : 'hide', { name }), hidden ? 'eye-off' : 'eye',
      () => this.objects.update(id, { hidden: !hidden }, 'hide'),
      { 'aria-pressed': String(hidden), dataset: { role: 'hide' } });
    // What was pointed at can be answered once more on the part of the picture around it.
    const pointed = object.steps.some(({ type }) => type === 'point' || type === 'box');
    const closer = active && pointed && object.steps.at(-1).type !== 'closer'
      ? [iconButton(t('closer', { name }), 'closer', () => this.session.closer(), { dataset: { role: 'closer' } })]
      : [];
    const bin = iconButton(t('delete', { name }), 'bin', () => {
      this.objects.remove(id);
      say(t('saidRemoved'));
    }, { dataset: { role: 'delete' } });
    const classes = [active && 'active', hidden && 'hidden'].filter(Boolean).join(' ');
    const row = make('li', { class: classes, dataset: { id, area: mask.area } },
      pick, make('div', { class: 'naming' }, field, figures), swatch, ...closer, eye, bin);
    row.style.setProperty('--colour', colour);
    return row;
  }

  /** @param {number | null} id */
  select(id) {
    this.objects.select(id);
    const active = this.objects.active;
    say(active ? t('saidSelected', { name: active.name }) : t('saidNew'));
  }

  #drawReadings(active) {
    const clicked = active?.steps.length === 1 && active.steps[0].type === 'point';
    const several = clicked && active.answer.masks.length > 1;
    this.readings.hidden = !several;
    const row = this.readings.querySelector('.row');
    if (!several) return row.replaceChildren();
    const inside = row.contains(document.activeElement);
    row.replaceChildren(...active.answer.masks.map((mask, index) => {
      const score = percent(mask.score);
      const button = make('button', {
        type: 'button',
        class: 'reading',
        'aria-pressed': String(index === active.reading),
        'aria-label': t('reading', { n: index + 1, score }),
      }, thumbnail(mask, this.session.picture, active.colour), make('span', { textContent: `${score} %` }));
      button.addEventListener('click', () => this.session.chooseReading(index));
      return button;
    }));
    if (inside) row.children[active.reading]?.focus();
  }
}

/**
 * Thumbnails of masks, drawn once each for each colour.
 * @type {WeakMap<object, {colour: string, canvas: HTMLCanvasElement}>}
 */
const thumbnails = new WeakMap();

/** The piece, as large as fits. */
function thumbnail(mask, picture, colour) {
  const known = thumbnails.get(mask);
  const size = 96;
  const canvas = make('canvas', { width: size, height: size, 'aria-hidden': 'true' });
  const context = canvas.getContext('2d');
  if (known && known.colour === colour) {
    context.drawImage(known.canvas, 0, 0);
    return canvas;
  }
  const [x, y, width, height] = mask.bbox;
  if (!picture || !(width > 0)) return canvas;
  const scale = (size - 14) / Math.max(width, height);
  context.setTransform(scale, 0, 0, scale, size / 2 - (x + width / 2) * scale, size / 2 - (y + height / 2) * scale);
  const path = outlineOf(mask);
  context.save();
  context.clip(path, 'evenodd');
  picture.draw(context, scale, [x, y, x + width, y + height]);
  context.restore();
  context.lineJoin = 'round';
  context.strokeStyle = colour;
  context.lineWidth = 3.5 / scale;
  context.stroke(path);
  thumbnails.set(mask, { colour, canvas });
  return canvas;
}

