/**
 * The three canvases that lie upon each other: the picture; the objects' masks; and what lives under the pointer (the
 * mask that a click would give, the crosshair, clicks and boxes). The pointer's moves redraw the last alone.
 */

import { COLOURS, maskOf } from './objects.js';
import { outline } from './outline.js';

const FINE = 1600;
const QUICK = 640;

/** Outlines of masks that stay, found once each. @type {WeakMap<object, Path2D>} */
const outlines = new WeakMap();

/** @param {import('./segmenter.js').Mask} mask */
export function outlineOf(mask) {
  let path = outlines.get(mask);
  if (!path) outlines.set(mask, (path = outline(mask, FINE)));
  return path;
}

/**
 * @typedef {{x: number, y: number, label: 0 | 1}} Click
 * @typedef {{mask: import('./segmenter.js').Mask, label: 0 | 1, refines: boolean}} Preview
 */
export class Stage {
  /** @type {import('./picture.js').Picture | null} */
  picture = null;
  /** @type {Preview | null} */
  preview = null;
  /** The keyboard's crosshair, in the picture's pixels. @type {[number, number] | null} */
  crosshair = null;
  /** A box that is being drawn. @type {[number, number, number, number] | null} */
  box = null;
  /** Steps that were asked for and are not answered yet. @type {import('./objects.js').Step[]} */
  pending = [];
  opacity = 0.45;
  /** Only the pieces that were cut out, on paper. */
  pieces = false;
  #dirty = new Set();
  #frame = 0;

  /**
   * @param {HTMLElement} element @param {import('./view.js').View} view @param {import('./objects.js').Objects} objects
   */
  constructor(element, view, objects) {
    this.element = element;
    this.view = view;
    this.objects = objects;
    const context = (name) => element.querySelector(`canvas.${name}`).getContext('2d');
    this.contexts = { picture: context('picture'), masks: context('masks'), live: context('live') };
    view.addEventListener('change', () => this.invalidate('picture', 'masks', 'live'));
    objects.addEventListener('change', () => this.invalidate('masks', 'live'));
    new ResizeObserver(() => this.#resize()).observe(element);
    this.#resize();
  }

  /** @param {...('picture' | 'masks' | 'live')} layers to be drawn anew with the next frame */
  invalidate(...layers) {
    for (const layer of layers) this.#dirty.add(layer);
    this.#frame ||= requestAnimationFrame(() => this.flush());
  }

  /** Draws now what the next frame would draw. */
  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#dirty.has('picture')) this.#drawPicture();
    if (this.#dirty.has('masks')) this.#drawMasks();
    if (this.#dirty.has('live')) this.#drawLive();
    this.#dirty.clear();
  }

  /** Draws the mask under the pointer at once. @param {Preview | null} preview */
  showPreview(preview) {
    this.preview = preview && { ...preview, path: outline(preview.mask, QUICK) };
    this.#dirty.delete('live');
    this.#drawLive();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    this.ratio = Math.min(2, Math.max(1, window.devicePixelRatio || 1));
    for (const { canvas } of Object.values(this.contexts)) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    // Where the tools stand at the side there is room for them; on a phone they stand below the stage.
    this.view.margins = width > 700
      ? { left: 108, top: 22, right: 28, bottom: 74 }
      : { left: 12, top: 12, right: 12, bottom: 66 };
    this.view.resize(width, height);
    this.invalidate('picture', 'masks', 'live');
    this.flush();
  }

  /** Clears a layer and sets it up for the picture's coordinates. */
  #begin(context) {
    const { view } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    this.#toPicture(context);
    return [...view.toImage(0, 0), ...view.toImage(view.width, view.height)];
  }

  #toPicture(context) {
    const { view, ratio } = this;
    context.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.x * ratio, view.y * ratio);
  }

  #colour(name) {
    return getComputedStyle(this.element).getPropertyValue(name).trim();
  }

  #drawPicture() {
    const context = this.contexts.picture;
    const seen = this.#begin(context);
    if (!this.picture) return;
    const { width, height } = this.picture;
    const scale = this.view.scale * this.ratio;
    context.save();
    context.shadowColor = 'rgb(30 20 10 / 0.28)';
    context.shadowBlur = 18 * this.ratio;
    context.shadowOffsetY = 5 * this.ratio;
    context.fillStyle = this.#colour('--sheet');
    context.fillRect(0, 0, width, height);
    context.restore();
    if (!this.pieces) this.picture.draw(context, scale, seen);
  }

  #drawMasks() {
    const context = this.contexts.masks;
    const seen = this.#begin(context);
    const { list, active } = this.objects;
    // Small pieces lie upon large ones, so that each is seen.
    const shown = list.filter((object) => !object.hidden && maskOf(object)?.area > 0)
      .sort((one, other) => maskOf(other).area - maskOf(one).area);
    for (const object of shown) if (object !== active) this.#drawObject(context, object, seen, false);
    if (active && shown.includes(active)) this.#drawObject(context, active, seen, true);
  }

  #drawObject(context, object, seen, active) {
    const path = outlineOf(maskOf(object));
    const pixel = 1 / this.view.scale;
    context.lineJoin = 'round';
    if (this.pieces) {
      context.save();
      context.shadowColor = 'rgb(20 14 8 / 0.45)';
      context.shadowBlur = 10 * this.ratio;
      context.shadowOffsetY = 4 * this.ratio;
      context.fillStyle = '#fff';
      context.fill(path, 'evenodd');
      context.restore();
      context.save();
      context.clip(path, 'evenodd');
      this.picture.draw(context, this.view.scale * this.ratio, seen);
      context.restore();
      context.strokeStyle = active ? object.colour : '#fff';
      context.lineWidth = (active ? 2.5 : 2) * pixel;
      context.stroke(path);
      return;
    }
    context.globalAlpha = this.opacity;
    context.fillStyle = object.colour;
    context.fill(path, 'evenodd');
    context.globalAlpha = 1;
    context.strokeStyle = 'rgb(255 253 248 / 0.95)';
    context.lineWidth = (active ? 5 : 3) * pixel;
    context.stroke(path);
    context.strokeStyle = object.colour;
    context.lineWidth = (active ? 2.5 : 1.25) * pixel;
    context.stroke(path);
  }

  #drawLive() {
    const context = this.contexts.live;
    this.#begin(context);
    if (!this.picture) return;
    if (this.preview) this.#drawPreview(context);
    const active = this.objects.active;
    const steps = [...(active && !active.hidden ? active.steps : []), ...this.pending];
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const box = steps.findLast((step) => step.type === 'box');
    if (box) this.#drawBox(context, box.box, false);
    if (this.box) this.#drawBox(context, this.box, true);
    for (const step of steps) {
      if (step.type === 'point') this.#drawPoint(context, step, this.pending.includes(step));
    }
    if (this.crosshair) this.#drawCrosshair(context);
  }

  #drawPreview(context) {
    const { path, label, refines } = this.preview;
    const pixel = 1 / this.view.scale;
    const active = this.objects.active;
    const colour = active?.colour ?? COLOURS[(this.objects.nextNumber - 1) % COLOURS.length];
    context.lineJoin = 'round';
    context.globalAlpha = 0.3;
    context.fillStyle = label === 0 ? '#14100c' : colour;
    context.fill(path, 'evenodd');
    context.globalAlpha = 1;
    context.strokeStyle = 'rgb(255 253 248 / 0.98)';
    context.lineWidth = 3.5 * pixel;
    context.stroke(path);
    context.strokeStyle = colour;
    context.lineWidth = 1.5 * pixel;
    context.setLineDash(refines ? [6 * pixel, 4 * pixel] : []);
    context.stroke(path);
    context.setLineDash([]);
  }

  #drawPoint(context, { x, y, label }, pending) {
    const [px, py] = this.view.toStage(x, y);
    context.globalAlpha = pending ? 0.55 : 1;
    context.beginPath();
    context.arc(px, py, 7, 0, 2 * Math.PI);
    context.fillStyle = label ? '#1f7a4d' : '#b3261e';
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = '#fffdf8';
    context.stroke();
    context.beginPath();
    context.moveTo(px - 3.2, py);
    context.lineTo(px + 3.2, py);
    if (label) {
      context.moveTo(px, py - 3.2);
      context.lineTo(px, py + 3.2);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  #drawBox(context, [x0, y0, x1, y1], live) {
    const [left, top] = this.view.toStage(Math.min(x0, x1), Math.min(y0, y1));
    const [right, bottom] = this.view.toStage(Math.max(x0, x1), Math.max(y0, y1));
    const rectangle = [left, top, right - left, bottom - top];
    context.lineWidth = live ? 3.5 : 3;
    context.strokeStyle = 'rgb(255 253 248 / 0.9)';
    context.strokeRect(...rectangle);
    context.lineWidth = 1.5;
    context.setLineDash([7, 5]);
    context.strokeStyle = '#1c1a17';
    context.strokeRect(...rectangle);
    context.setLineDash([]);
  }

  #drawCrosshair(context) {
    const [x, y] = this.view.toStage(...this.crosshair);
    for (const [colour, width] of [['rgb(255 253 248 / 0.95)', 4], ['#1c1a17', 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 6 * dx, y + 6 * dy);
        context.lineTo(x + 18 * dx, y + 18 * dy);
      }
      context.stroke();
    }
  }
}
